"""FLAT's total variation held to a naive computation, one unpadded sequence at a time."""

from __future__ import annotations

import math

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_nlls
from pairs import made, moved_policy, pairs, terms_of, values_of

from unlearning.losses import TokenLosses
from unlearning.methods.flat import flat
from unlearning.objective import Objective


def probability(policy, pair) -> torch.Tensor:
    """P(x, y): the mean probability of the answer's tokens."""
    return torch.exp(-token_nlls(policy, pair)).mean()


def naive_flat(policy) -> torch.Tensor:
    """-E[g] + E[f*(g)] with g(v) = tanh(v) / 2 and f*(u) = u."""
    g = {
        role: mean_of(torch.tanh(probability(policy, pair)) / 2 for pair in pairs(role))
        for role in ("alternate", "forget")
    }
    return -g["alternate"] + g["forget"]


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_loss_is_the_naive_one(make_model, layout, scale):
    policy, reference = moved_policy(make_model)
    policy.lm_head.weight.data.mul_(scale)  # likelier and unlikelier tokens
    found = values_of(policy, reference, terms_of("flat"), layout)
    expected = naive_flat(policy)
    assert abs(expected.item()) > 1e-3
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-10)
    theirs = gradients(expected, policy)
    assert relative_error(gradients(found.total, policy), theirs) < 1e-10


def test_by_hand():
    alternate = made([[0.0, math.log(2)]])  # probabilities 1 and 1/2
    forget = made([[math.log(4)], [math.log(10), math.log(5), 0.0]])  # 1/4; 1/10, 1/5, 1
    expected = (math.tanh(0.25) / 2 + math.tanh(1.3 / 3) / 2) / 2 - math.tanh(0.75) / 2
    assert flat(alternate, forget).item() == pytest.approx(expected, rel=1e-12)


def test_answers_that_are_as_likely_cancel():
    assert flat(made([[0.3, 2.0]]), made([[0.3, 2.0]])).item() == 0


def test_it_lies_within_its_bounds():
    sure, impossible = made([[0.0]]), made([[math.inf]])
    bound = math.tanh(1) / 2
    assert flat(sure, impossible).item() == pytest.approx(-bound, rel=1e-12)
    assert flat(impossible, sure).item() == pytest.approx(bound, rel=1e-12)


def test_a_tokens_gradient_is_in_proportion_to_its_probability():
    alternate, forget = made([[0.5, 3.0]]), made([[0.25, 40.0]])
    slopes = torch.autograd.grad(flat(alternate, forget), (alternate.nll, forget.nll))
    for tokens, slope, sign in zip((alternate, forget), slopes, (1, -1), strict=True):
        p = torch.exp(-tokens.nll.detach())
        weight = (1 - torch.tanh(p.mean()) ** 2) / 4  # of two tokens, half of tanh's slope
        assert slope.tolist() == pytest.approx((sign * weight * p).tolist(), rel=1e-12)
    assert abs(slopes[1][1].item()) < 1e-17  # forgotten already


def test_the_tanh_is_of_each_answer():
    """The released code takes that of the batch's mean probability."""
    forget = made([[0.0], [math.inf]])
    found = flat(made([[math.inf]]), forget).item()
    assert found == pytest.approx((math.tanh(1) / 2 + 0) / 2, rel=1e-12)
    assert abs(found - math.tanh(0.5) / 2) > 0.03


def test_neither_prompt_nor_padding_thins_the_probability(make_model):
    """The released code averages over all positions of a padded row, 0 at those without a loss."""
    policy, reference = moved_policy(make_model)
    found = values_of(policy, reference, terms_of("flat"), "padded").total.item()
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs("forget"))

    def thinned(role: str) -> torch.Tensor:
        positions = len(pairs(role)) * (longest - 1)
        total = sum(torch.exp(-token_nlls(policy, pair)).sum() for pair in pairs(role))
        return torch.tanh(total / positions) / 2

    released = (thinned("forget") - thinned("alternate")).item()
    assert found == pytest.approx(naive_flat(policy).item(), rel=1e-10)
    assert abs(found - released) > 0.1 * abs(found)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_probability_is_a_mean_whatever_the_reduction(reduction):
    forget = made([[0.0, 0.0]], reduction=reduction)
    alternate = made([[math.inf]], reduction=reduction)
    assert flat(alternate, forget).item() == pytest.approx(math.tanh(1) / 2, rel=1e-12)


def test_it_needs_forget_data_alone():
    objective = Objective(terms_of("flat"))
    assert objective.roles == {"alternate", "forget"} and not objective.reference_roles
    tokens = made([[1.0]])
    bare = TokenLosses(tokens.nll, tokens.sequence, 1)
    assert flat(bare, bare).item() == 0
