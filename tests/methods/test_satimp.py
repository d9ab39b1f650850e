"""SatImp against its paper's formula, at its ends and by hand."""

from __future__ import annotations

import math

import pytest

from unlearning.losses import gradient_ascent
from unlearning.methods.satimp import satimp
from unlearning.methods.wga import wga

from .forget_losses import held_to, slope, tokens_of, weighted_ascent


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize(("beta1", "beta2"), [(5.0, 1.0), (0.4, 2.5)])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, beta1, beta2):
    forget = {"loss": satimp, "options": {"beta1": beta1, "beta2": beta2}}
    naive = weighted_ascent(lambda p: p**beta1 * (1 - p) ** beta2)
    held_to(naive, forget, make_model, make_data, layout)


def test_by_hand():
    tokens = tokens_of([math.log(2), math.log(4)])  # p = 1/2 and 1/4
    weights = [0.5**2 * 0.5, 0.25**2 * 0.75]
    loss = satimp(tokens, beta1=2.0, beta2=1.0)
    expected = -(weights[0] * math.log(2) + weights[1] * math.log(4)) / 2
    assert loss.item() == pytest.approx(expected)
    assert slope(loss, tokens) == pytest.approx([-weight / 2 for weight in weights])


def test_its_ends_are_gradient_ascent_and_wga():
    tokens = tokens_of([1.0, 3.0, 4.0], [0, 0, 1])
    for loss, same in [
        (satimp(tokens, beta1=0, beta2=0), gradient_ascent(tokens)),
        (satimp(tokens, beta1=1.5, beta2=0), wga(tokens, beta=1.5)),
    ]:
        assert loss.item() == pytest.approx(same.item())
        assert slope(loss, tokens) == pytest.approx(slope(same, tokens))


def test_sure_and_forgotten_tokens_pull_not_at_all():
    tokens = tokens_of([0.0, 300.0, 1e-12])
    assert slope(satimp(tokens), tokens) == pytest.approx([0.0, 0.0, 0.0], abs=1e-11)


@pytest.mark.parametrize(("beta1", "beta2"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_bad_options_are_told(beta1, beta2):
    with pytest.raises(ValueError, match="must not be negative"):
        satimp(tokens_of([1.0]), beta1=beta1, beta2=beta2)
