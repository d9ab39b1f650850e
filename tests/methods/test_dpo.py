"""DPO and IdkDPO held to a naive computation, one unpadded sequence at a time."""

from __future__ import annotations

import math

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_nlls
from pairs import (
    ALTERNATE,
    FORGET,
    PROMPTS,
    RETAIN,
    made,
    moved_policy,
    ratio,
    terms_of,
    values_of,
)

from unlearning.losses import TokenLosses
from unlearning.methods.dpo import dpo
from unlearning.module import UnlearningModule


def naive_dpo(policy, reference, alternates: int, beta: float) -> torch.Tensor:
    return mean_of(
        2 / beta * torch.log(1 + torch.exp(-beta * (
            ratio(policy, reference, (prompt, winner)) - ratio(policy, reference, (prompt, loser))
        )))
        for prompt, winners, loser in zip(PROMPTS, ALTERNATE, FORGET, strict=True)
        for winner in winners[:alternates]
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("alternates", [1, 2])
def test_the_loss_is_the_naive_one(make_model, layout, alternates):
    policy, reference = moved_policy(make_model)
    terms = terms_of("dpo")
    found = values_of(policy, reference, terms, layout, alternates)
    forget = naive_dpo(policy, reference, alternates, beta=0.1)
    retain = mean_of(token_nlls(policy, pair).mean() for pair in RETAIN)
    assert abs(forget.item() - 20 * math.log(2)) > 0.1  # where policy and reference agree
    assert found.terms["forget"].item() == pytest.approx(forget.item(), rel=1e-12)
    assert found.terms["retain"].item() == pytest.approx(retain.item(), rel=1e-12)
    expected = gradients(forget + retain, policy)
    assert relative_error(gradients(found.total, policy), expected) < 1e-10


def test_by_hand():
    alternate = made([[1.0, 2.0]], [[2.0, 2.0]])  # log-ratio 1, of the sum over both tokens
    forget = made([[3.0]], [[1.0]])  # log-ratio -2
    found = dpo(alternate, forget, beta=0.5)  # -4 log sigmoid(0.5 * 3)
    assert found.item() == pytest.approx(4 * math.log(1 + math.exp(-1.5)), rel=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_where_policy_and_reference_agree_it_descends_the_difference_of_the_nlls(beta):
    alternate = made([[1.0, 2.0], [4.0]], [[1.0, 2.0], [4.0]])
    forget = made([[3.0], [0.5, 0.25]], [[3.0], [0.5, 0.25]])
    value = dpo(alternate, forget, beta)
    assert value.item() == pytest.approx(2 / beta * math.log(2), rel=1e-12)
    slopes = torch.autograd.grad(value, (alternate.nll, forget.nll))
    assert slopes[0].tolist() == pytest.approx([0.5, 0.5, 0.5])  # 1 a token; the mean of two pairs
    assert slopes[1].tolist() == pytest.approx([-0.5, -0.5, -0.5])


def test_equal_answers_have_no_preference():
    both = ([[3.0, 1.0]], [[1.0, 5.0]])
    alternate, forget = made(*both), made(*both)
    value = dpo(alternate, forget, beta=0.1)
    assert value.item() == pytest.approx(20 * math.log(2), rel=1e-12)
    slopes = torch.autograd.grad(value, (alternate.nll, forget.nll))
    assert torch.equal(slopes[0], -slopes[1])


def test_for_a_small_beta_it_is_the_difference_of_the_nlls():
    alternate, forget = made([[1.0, 7.0]], [[2.0, 3.0]]), made([[4.0]], [[9.0]])
    value = dpo(alternate, forget, beta=1e-5)
    margin = (5 - 8) - (9 - 4)
    assert value.item() - 2e5 * math.log(2) == pytest.approx(-margin, rel=1e-3)


def test_a_pair_that_is_told_apart_takes_no_more_gradient():
    alternate, forget = made([[0.0]], [[200.0]]), made([[200.0]], [[0.0]])
    (slope,) = torch.autograd.grad(dpo(alternate, forget, beta=0.1), forget.nll)
    assert -1e-15 < slope.item() < 0


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_every_alternate_answer_meets_the_forget_answer_to_its_own_prompt(order):
    """Several to one prompt, and in any order, as the rows have them."""
    gains = {0: 1.0, 1: -4.0, 2: 9.0}  # of the forget answers, by prompt
    forget = made([[0.0]] * 3, [[gains[prompt]] for prompt in order], order)
    prompts = [2, 2, 0, 1, 0, 1]
    alternate = made([[0.0]] * 6, [[float(n)] for n in range(6)], prompts)
    expected = [
        20 * math.log(1 + math.exp(-0.1 * (n - gains[prompt]))) for n, prompt in enumerate(prompts)
    ]
    assert dpo(alternate, forget).item() == pytest.approx(sum(expected) / 6, rel=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_log_ratios_are_sums_whatever_the_reduction(reduction):
    alternate = made([[1.0, 1.0]], [[2.0, 3.0]], reduction=reduction)
    forget = made([[1.0]], [[1.0]], reduction=reduction)
    assert dpo(alternate, forget, 2.0).item() == pytest.approx(math.log(1 + math.exp(-6)))


def test_the_released_code_of_flat_leaves_the_reference_out_of_its_dpo_and_this_does_not():
    forget = made([[1.0]], [[1.0]])
    values = {dpo(made([[2.0]], [[known]]), forget).item() for known in (1.0, 2.0, 3.0)}
    assert len(values) == 3


def test_training_prefers_the_refusals(make_model, make_data, quiet_trainer):
    texts = ["not in the sun", "nobody looks", "the cat says not"]
    data = make_data(alternate=texts, alternates_per_prompt=2, mismatch_per_prompt=0)
    settings = {"learning_rate": 3e-3, "schedule": "constant"}
    module = UnlearningModule(make_model(), terms_of("dpo"), **settings)
    data.setup()
    before = module.loss(data.batch_at(0))
    assert before.terms["forget"].item() == pytest.approx(20 * math.log(2), rel=1e-5)
    quiet_trainer(max_steps=30).fit(module, data)
    after = module.loss(data.batch_at(0))
    assert after.terms["forget"].item() < 0.2 * before.terms["forget"].item()
    for role, sign in (("forget", 1), ("alternate", -1)):
        moved = after.tokens[role].nll.mean() - before.tokens[role].nll.mean()
        assert sign * moved.item() > 0.5


@pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, math.nan])
def test_a_beta_that_is_no_number_above_0_is_refused(beta):
    answers = made([[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"dpo: beta=.* must be a number above 0"):
        dpo(answers, answers, beta)


def test_answers_that_cannot_be_compared_are_refused():
    answers, alone = made([[1.0]], [[1.0]]), made([[1.0]])
    for given in ((answers, alone), (alone, answers)):
        with pytest.raises(ValueError, match="needs a reference"):
            dpo(*given)
    unknown = TokenLosses(answers.nll, answers.sequence, 1, reference_nll=answers.nll)
    for given in ((answers, unknown), (unknown, answers)):
        with pytest.raises(ValueError, match="answers to the same prompt"):
            dpo(*given)
