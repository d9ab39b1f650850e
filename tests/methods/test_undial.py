"""UNDIAL against its paper's formula, and against what released code does at masked positions."""

from __future__ import annotations

import pytest
import torch
from naive import answer_log_probs, mean_of

from unlearning.methods.undial import undial

from .forget_losses import held_to

BETA = 3.0


def naive(model, forget, reference):
    values = []
    for prompt, answer in forget:
        log_p = answer_log_probs(model, (prompt, answer))
        with torch.no_grad():
            z = answer_log_probs(reference, (prompt, answer))  # logits up to a constant a row
        tokens = []
        for row, (token, ours) in enumerate(zip(answer, log_p, strict=True)):
            lowered = z[row].clone()
            lowered[token] -= BETA
            target = lowered.exp() / lowered.exp().sum()
            tokens.append(-(target * ours).sum())
        values.append(torch.stack(tokens).mean())
    return mean_of(values)


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one_over_answer_tokens_alone(make_model, make_data, layout):
    """Released code (open-unlearning) averages over prompt and padding, too."""
    forget = {"loss": undial, "options": {"beta": BETA}}
    held_to(naive, forget, make_model, make_data, layout, reference=True)


def test_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    reference = torch.tensor([[0.6, 0.3, 0.1]]).log()
    lowered = [0.6 * 0.5, 0.3, 0.1]  # beta = log 2 halves the token's odds
    target = torch.tensor(lowered) / sum(lowered)
    expected = -(target * logits[0]).sum().item()
    beta = torch.tensor(2.0).log().item()
    assert undial(logits, torch.tensor([0]), reference, beta=beta).item() == pytest.approx(expected)


def test_beta_0_is_the_cross_entropy_to_the_reference_and_a_large_one_is_finite():
    generator = torch.Generator().manual_seed(0)
    logits, reference = (torch.randn(5, 7, generator=generator) for _ in "ab")
    targets = torch.arange(5)
    plain = torch.nn.functional.cross_entropy(logits, reference.softmax(-1), reduction="none")
    torch.testing.assert_close(undial(logits, targets, reference, beta=0.0), plain)
    large = undial(50 * logits.requires_grad_(), targets, 50 * reference, beta=1e4)
    (gradient,) = torch.autograd.grad(large.sum(), logits)
    assert large.isfinite().all() and gradient.isfinite().all()


def test_its_least_value_is_at_the_target():
    reference, targets = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([1])
    lowered = reference.clone()
    lowered[0, 1] -= BETA
    leaf = lowered.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(undial(leaf, targets, reference, beta=BETA).sum(), leaf)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_bad_options_are_told(beta):
    with pytest.raises(ValueError, match="must not be negative"):
        undial(torch.zeros(1, 3), torch.tensor([0]), torch.zeros(1, 3), beta=beta)
