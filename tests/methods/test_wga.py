"""WGA against its paper's formula: weights are probabilities, and carry no gradient."""

from __future__ import annotations

import math

import pytest

from unlearning.losses import gradient_ascent
from unlearning.methods.wga import wga

from .forget_losses import held_to, slope, tokens_of, weighted_ascent


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, beta):
    forget = {"loss": wga, "options": {"beta": beta}}
    held_to(weighted_ascent(lambda p: p**beta), forget, make_model, make_data, layout)


def test_by_hand_and_the_weight_has_no_gradient():
    tokens = tokens_of([math.log(2), math.log(4)])
    loss = wga(tokens, beta=2.0)
    assert loss.item() == pytest.approx(-(0.25 * math.log(2) + 0.0625 * math.log(4)) / 2)
    # With a gradient through p^2 the slope would be (2 NLL - 1) p^2 / 2, of the other sign here.
    assert slope(loss, tokens) == pytest.approx([-0.125, -0.03125])


def test_beta_0_is_gradient_ascent():
    tokens = tokens_of([1.0, 3.0, 4.0], [0, 0, 1])
    assert wga(tokens, beta=0).item() == gradient_ascent(tokens).item()
    assert slope(wga(tokens, beta=0), tokens) == slope(gradient_ascent(tokens), tokens)


def test_an_unlikely_token_pulls_no_more():
    tokens = tokens_of([200.0])
    assert slope(wga(tokens), tokens) == pytest.approx([0.0], abs=1e-80)


@pytest.mark.parametrize("beta", [-0.1, math.nan])
def test_bad_options_are_told(beta):
    with pytest.raises(ValueError, match="must not be negative"):
        wga(tokens_of([1.0]), beta=beta)
