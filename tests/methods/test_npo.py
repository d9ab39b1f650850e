"""NPO against its paper's formula, and its limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from naive import mean_of, token_nlls

from unlearning import losses
from unlearning.imports import import_object, import_path
from unlearning.losses import gradient_ascent
from unlearning.methods.npo import npo

from .forget_losses import held_to, slope, tokens_of


def naive(beta):
    """arXiv 2404.05868, Eq. 3: (2 / beta) log(1 + (pi / pi_ref)^beta)."""

    def loss(model, forget, before):
        values = []
        for pair in forget:
            with torch.no_grad():
                reference = -token_nlls(before, pair).sum()
            ratio = (-token_nlls(model, pair).sum() - reference).exp()
            values.append(2 / beta * torch.log(1 + ratio**beta))
        return mean_of(values)

    return loss


def against(reference_nll, *tokens):
    return replace(tokens_of(*tokens), reference_nll=torch.tensor(reference_nll))


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, beta):
    forget = {"loss": npo, "options": {"beta": beta}}
    held_to(naive(beta), forget, make_model, make_data, layout, reference=True)


def test_by_hand():
    # log(p / p_ref) of the sequences: (0.5 + 1) - (1 + 3) = -2.5 and 2 - 1 = 1.
    tokens = against([0.5, 1.0, 2.0], [1.0, 3.0, 1.0], [0, 0, 1])
    beta = 0.3
    expected = [2 / beta * math.log(1 + math.exp(beta * ratio)) for ratio in (-2.5, 1.0)]
    assert npo(tokens, beta).item() == pytest.approx(sum(expected) / 2)
    # The weight of its gradient is that of gradient ascent times 2 p^b / (p^b + p_ref^b).
    weights = [2 / (1 + math.exp(-beta * ratio)) for ratio in (-2.5, -2.5, 1.0)]
    assert slope(npo(tokens, beta), tokens) == pytest.approx([-weight / 2 for weight in weights])


def test_as_beta_falls_it_becomes_gradient_ascent():
    tokens = against([0.5, 1.0, 2.0], [1.0, 3.0, 1.0], [0, 0, 1])
    summed = replace(tokens, reduction="sum")
    assert slope(npo(tokens, 1e-7), tokens) == pytest.approx(slope(gradient_ascent(summed), tokens))


def test_the_declared_reduction_changes_nothing():
    tokens = against([0.5, 1.0, 2.0], [1.0, 3.0, 1.0], [0, 0, 1])
    assert npo(tokens).item() == npo(replace(tokens, reduction="sum")).item()


def test_it_is_not_separable():
    assert not hasattr(npo, "separable_in")


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_bad_options_are_told(beta):
    with pytest.raises(ValueError, match=r"npo: beta=.* must be a number above 0"):
        npo(against([1.0], [1.0]), beta)


def test_it_needs_a_reference():
    with pytest.raises(ValueError, match="needs a reference"):
        npo(tokens_of([1.0]))


def test_its_old_path_leads_to_it():
    """That of configurations and checkpoints until version 0.9."""
    assert import_object("unlearning.losses.npo") is npo
    assert import_path(npo) == "unlearning.methods.npo.npo"
    with pytest.raises(AttributeError, match=r"'unlearning.losses' has no attribute 'npoo'"):
        _ = losses.npoo
