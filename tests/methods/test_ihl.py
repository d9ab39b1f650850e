"""The inverted hinge loss against its paper's formula, and its bounds."""

from __future__ import annotations

import pytest
import torch
from naive import answer_log_probs, mean_of

from unlearning.methods.ihl import inverted_hinge

from .forget_losses import held_to


def naive(model, forget):
    values = []
    for prompt, answer in forget:
        tokens = []
        for token, log_p in zip(answer, answer_log_probs(model, (prompt, answer)), strict=True):
            others = torch.cat([log_p[:token], log_p[token + 1 :]])
            tokens.append(1 + log_p[token].exp() - others.exp().max())
        values.append(torch.stack(tokens).mean())
    return mean_of(values)


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, make_data, layout):
    held_to(naive, {"loss": inverted_hinge}, make_model, make_data, layout)


def test_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    found = [inverted_hinge(logits, torch.tensor([token])).item() for token in range(3)]
    assert found == pytest.approx([1 + 0.5 - 0.3, 1 + 0.3 - 0.5, 1 + 0.2 - 0.5])


def test_it_is_bounded_and_a_certain_rival_leaves_no_gradient():
    logits = torch.tensor([[300.0, 0.0, -300.0], [0.0, 300.0, 0.0]]).requires_grad_()
    value = inverted_hinge(logits, torch.tensor([0, 0]))
    assert value.tolist() == pytest.approx([2.0, 0.0])
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max() == 0


def test_only_the_token_and_its_strongest_rival_are_traded():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().requires_grad_()
    (gradient,) = torch.autograd.grad(inverted_hinge(logits, torch.tensor([0])).sum(), logits)
    p, r = 0.5, 0.3
    expected = [p * (1 - p) + p * r, -p * r - r * (1 - r), -p * 0.2 + r * 0.2]
    assert gradient[0].tolist() == pytest.approx(expected)
