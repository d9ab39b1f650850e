"""ME+GD against its formula: a uniform guess is its least value."""

from __future__ import annotations

import math

import pytest
import torch
from naive import answer_log_probs, mean_of

from unlearning.methods.me_gd import kl_from_uniform

from .forget_losses import held_to


def naive(model, forget):
    values = []
    for pair in forget:
        log_p = answer_log_probs(model, pair)
        uniform = torch.full_like(log_p, 1 / log_p.shape[-1])
        values.append((uniform * (uniform.log() - log_p)).sum(-1).mean())
    return mean_of(values)


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, make_data, layout):
    held_to(naive, {"loss": kl_from_uniform}, make_model, make_data, layout)


def test_by_hand_whatever_the_token():
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log() + 7.0
    expected = math.log(1 / 3) - (math.log(0.5) + 2 * math.log(0.25)) / 3
    for token in range(3):
        assert kl_from_uniform(logits, torch.tensor([token])).item() == pytest.approx(expected)


def test_a_uniform_guess_is_its_least_value_and_an_impossible_token_is_finite():
    logits = torch.zeros(1, 5).requires_grad_()
    value = kl_from_uniform(logits, torch.tensor([0]))
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-7
    far = torch.tensor([[400.0, 0.0]])  # a clamped log, as in released code, would give 13.1
    assert kl_from_uniform(far, torch.tensor([0])).item() == pytest.approx(200 - math.log(2))
