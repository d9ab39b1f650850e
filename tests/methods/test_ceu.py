"""CE-U against its paper's formula, without the answers' first tokens."""

from __future__ import annotations

import math

import pytest
import torch
from naive import answer_log_probs, mean_of

from unlearning.losses import TokenLosses
from unlearning.methods.ceu import ceu, cross_entropy_without, place_in_sequence
from unlearning.objective import Objective
from unlearning.quantities import TokenQuantity

from .forget_losses import held_to


def naive(skip):
    def loss(model, forget):
        values = []
        for prompt, answer in forget:
            tokens = []
            for token, log_p in zip(answer, answer_log_probs(model, (prompt, answer)), strict=True):
                target = log_p.detach().exp().clone()
                target[token] = 0
                tokens.append(-(target / target.sum() * log_p).sum())
            values.append(torch.stack(tokens[skip:]).mean())
        return mean_of(values)

    return loss


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, skip):
    forget = {"loss": ceu, "options": {"skip_first": skip}}
    held_to(naive(skip), forget, make_model, make_data, layout)


@pytest.mark.parametrize("skip", [0, 1])
def test_one_pass_over_the_head_serves_it(skip):
    terms = {"forget": {"loss": ceu, "role": "forget", "options": {"skip_first": skip}}}
    assert Objective(terms).separable_in("forget") == TokenQuantity.of(cross_entropy_without)


def test_a_token_by_hand_and_its_gradient_pushes_that_token_down_alone_among_equals():
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().requires_grad_()
    value = cross_entropy_without(logits, torch.tensor([0]))
    assert value.item() == pytest.approx(math.log(4))  # -(1/2 log 1/4 + 1/2 log 1/4)
    (gradient,) = torch.autograd.grad(value, logits)  # p - target
    torch.testing.assert_close(gradient, torch.tensor([[0.5, -0.25, -0.25]]))


def test_it_is_finite_where_the_token_is_certain_or_impossible():
    logits = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]]).requires_grad_()
    value = cross_entropy_without(logits, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all() and gradient.isfinite().all()
    assert value.tolist() == pytest.approx([200.0, math.log(2)])


def tokens_of(values, sequence, reduction="mean"):
    quantity = {TokenQuantity.of(cross_entropy_without): torch.tensor(values)}
    zeros = torch.zeros(len(values))
    return TokenLosses(zeros, torch.tensor(sequence), max(sequence) + 1, reduction, values=quantity)


def test_first_tokens_do_not_count():
    tokens = tokens_of([9.0, 1.0, 9.0, 2.0, 4.0, 9.0], [0, 0, 1, 1, 1, 2])
    assert place_in_sequence(tokens.sequence, 3).tolist() == [0, 1, 0, 1, 2, 0]
    assert ceu(tokens).item() == pytest.approx((1 + 3 + 0) / 3)  # the third has no other token
    assert ceu(tokens, skip_first=0).item() == pytest.approx((5 + 5 + 9) / 3)
    summed = tokens_of([9.0, 1.0, 9.0, 2.0, 4.0, 9.0], [0, 0, 1, 1, 1, 2], "sum")
    assert ceu(summed).item() == pytest.approx((1 + 6 + 0) / 3)
    mixed = tokens_of([9.0, 9.0, 1.0, 2.0], [1, 0, 1, 0])
    assert place_in_sequence(mixed.sequence, 2).tolist() == [0, 0, 1, 1]
    assert ceu(mixed).item() == pytest.approx(1.5)


def test_bad_options_are_told():
    with pytest.raises(ValueError, match="must not be negative"):
        ceu(tokens_of([1.0], [0]), skip_first=-1)
