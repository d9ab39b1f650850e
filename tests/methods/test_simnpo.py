"""SimNPO against its paper's formula, and its limits."""

from __future__ import annotations

import math

import pytest
import torch
from naive import mean_of, token_nlls

from unlearning.losses import TokenLosses, gradient_ascent
from unlearning.methods.simnpo import simnpo

from .forget_losses import held_to, slope, tokens_of


def naive(beta, gamma):
    """arXiv 2410.07163: -(2 / beta) log sigma(-(beta / |y|) log pi(y|x) - gamma)."""

    def loss(model, forget):
        values = []
        for pair in forget:
            log_pi = -token_nlls(model, pair).sum()
            inner = -beta / len(pair[1]) * log_pi - gamma
            values.append(-2 / beta * torch.log(1 / (1 + torch.exp(-inner))))
        return mean_of(values)

    return loss


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize(("beta", "gamma"), [(2.5, 0.0), (0.7, 1.3)])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, beta, gamma):
    forget = {"loss": simnpo, "options": {"beta": beta, "gamma": gamma}}
    held_to(naive(beta, gamma), forget, make_model, make_data, layout)


def test_by_hand_and_a_long_answer_counts_no_more_than_a_short_one():
    tokens = tokens_of([1.0, 3.0, 4.0], [0, 0, 1])  # means 2 and 4
    expected = [2 * math.log(1 + math.exp(-mean)) for mean in (2, 4)]
    loss = simnpo(tokens, beta=1.0)
    assert loss.item() == pytest.approx(sum(expected) / 2)
    first, second, third = slope(loss, tokens)
    assert first == second and first + second == pytest.approx(-1 / (1 + math.exp(2)))
    assert third == pytest.approx(-1 / (1 + math.exp(4)))  # forgotten already: it counts less


def test_as_beta_falls_it_becomes_gradient_ascent():
    tokens = tokens_of([1.0, 3.0, 4.0], [0, 0, 1])
    ascent = slope(gradient_ascent(tokens), tokens)
    assert slope(simnpo(tokens, beta=1e-7), tokens) == pytest.approx(ascent, rel=1e-6)


def test_the_margin_of_released_code_is_gamma_over_beta():
    """-log sigma(beta (NLL - delta)) 2 / beta, with delta inside of the product."""
    tokens, beta, delta = tokens_of([1.0, 3.0]), 2.5, 0.4
    theirs = -torch.nn.functional.logsigmoid(beta * (tokens.nll.mean() - delta)) * 2 / beta
    assert simnpo(tokens, beta, gamma=beta * delta).item() == pytest.approx(theirs.item())
    assert simnpo(tokens, beta, gamma=delta).item() != pytest.approx(theirs.item())


def test_the_declared_reduction_changes_nothing():
    nll, sequence = torch.tensor([1.0, 3.0]), torch.tensor([0, 0])
    values = [simnpo(TokenLosses(nll, sequence, 1, reduction)) for reduction in ("mean", "sum")]
    assert values[0].item() == values[1].item()


@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, -0.1)])
def test_bad_options_are_told(beta, gamma):
    with pytest.raises(ValueError, match="must be above 0, and gamma="):
        simnpo(tokens_of([1.0]), beta=beta, gamma=gamma)
