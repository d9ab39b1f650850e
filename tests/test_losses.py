from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unlearning import losses
from unlearning.losses import (
    Reduction,
    TokenLosses,
    ascent_to_reference,
    bounded_ascent,
    gradient_ascent,
    kl_to_reference,
    match_reference,
    nll,
    random_mismatch,
)

LN2 = math.log(2)


def tokens_of(nll_N: list[float], sequence: list[int], **settings) -> TokenLosses:
    values = torch.tensor(nll_N, requires_grad=True)
    return TokenLosses(values, torch.tensor(sequence), max(sequence) + 1, **settings)


def test_terms_by_hand():
    # Sequences of NLL (1, 3) and (5): means 2 and 5, their mean 3.5; sums 4 and 5, their mean 4.5.
    mean = tokens_of([1.0, 3.0, 5.0], [0, 0, 1])
    total = tokens_of([1.0, 3.0, 5.0], [0, 0, 1], reduction="sum")
    assert gradient_ascent(mean).item() == pytest.approx(-3.5)
    assert random_mismatch(mean).item() == nll(mean).item() == pytest.approx(3.5)
    assert gradient_ascent(total).item() == pytest.approx(-4.5)
    assert random_mismatch(total).item() == pytest.approx(4.5)
    kl = tokens_of([0.0] * 3, [0, 1, 1], kl=torch.tensor([0.5, 0.1, 0.3]))
    assert kl_to_reference(kl).item() == pytest.approx((0.5 + 0.2) / 2)


def test_tokens_need_not_be_in_the_order_of_their_sequences():
    assert nll(tokens_of([5.0, 1.0, 3.0], [1, 0, 0])).item() == pytest.approx(3.5)


def test_gradient_ascent_climbs_and_weighs_sequences_alike():
    tokens = tokens_of([1.0, 3.0, 5.0], [0, 0, 1])
    (gradient,) = torch.autograd.grad(gradient_ascent(tokens), tokens.nll)
    assert gradient.tolist() == pytest.approx([-0.25, -0.25, -0.5])


def test_bounded_ascent_by_hand_and_no_gradient_above_the_cap():
    tokens = tokens_of([1.0, 30.0, 5.0], [0, 0, 1])
    loss = bounded_ascent(tokens, cap=10)
    assert loss.item() == pytest.approx(-((1 + 10) / 2 + 5) / 2)
    (gradient,) = torch.autograd.grad(loss, tokens.nll)
    assert gradient.tolist() == pytest.approx([-0.25, 0.0, -0.5])
    below = tokens_of([1.0, 3.0, 5.0], [0, 0, 1])
    assert bounded_ascent(below, cap=10).item() == gradient_ascent(below).item()


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_bounded_ascent_refuses_a_cap_that_is_none(cap):
    with pytest.raises(ValueError, match="cap above 0"):
        bounded_ascent(tokens_of([1.0], [0]), cap=cap)


def test_ascent_to_reference_by_hand_and_no_gradient_past_the_reference():
    reference_nll = torch.tensor([2.0, 3.0, 5.0, 1.0])
    tokens = tokens_of([1.0, 30.0, 5.0, 1.5], [0, 0, 1, 1], reference_nll=reference_nll)
    loss = ascent_to_reference(tokens)
    assert loss.item() == pytest.approx(-((1 + 3) / 2 + (5 + 1) / 2) / 2)
    (gradient,) = torch.autograd.grad(loss, tokens.nll)
    assert gradient.tolist() == [-0.25, 0.0, 0.0, 0.0]  # none at the reference's own value
    wider = ascent_to_reference(tokens, margin=1.0)
    assert wider.item() == pytest.approx(-((1 + 4) / 2 + (5 + 1.5) / 2) / 2)
    (gradient,) = torch.autograd.grad(wider, tokens.nll)
    assert gradient.tolist() == [-0.25, 0.0, -0.25, -0.25]
    assert ascent_to_reference(tokens, margin=1e6).item() == gradient_ascent(tokens).item()


@pytest.mark.parametrize("margin", [-1.0, math.nan])
def test_ascent_to_reference_refuses_a_negative_margin_and_no_reference(margin):
    with pytest.raises(ValueError, match="margin of 0 nats or more"):
        ascent_to_reference(tokens_of([1.0], [0], reference_nll=torch.ones(1)), margin=margin)
    with pytest.raises(ValueError, match="needs a reference"):
        ascent_to_reference(tokens_of([1.0], [0]))


def test_match_reference_by_hand_pulls_from_both_sides():
    reference_nll = torch.tensor([3.0, 1.0, 5.0, 2.5])
    tokens = tokens_of([1.0, 3.0, 5.0, 2.0], [0, 0, 1, 1], reference_nll=reference_nll)
    loss = match_reference(tokens)  # 1.5 and 1.5; 0 and 0.5^2 / 2
    assert loss.item() == pytest.approx((1.5 + (0 + 0.125) / 2) / 2)
    (gradient,) = torch.autograd.grad(loss, tokens.nll)
    assert gradient.tolist() == [-0.25, 0.25, 0.0, -0.125]  # up, back, nothing, up more gently
    with pytest.raises(ValueError, match="needs a reference"):
        match_reference(tokens_of([1.0], [0]))


def test_match_reference_rests_where_ascent_to_reference_does():
    """Below the reference both climb; past it one has no gradient and the other returns."""
    reference_nll = torch.tensor([4.0, 4.0])
    tokens = tokens_of([1.0, 7.0], [0, 0], reference_nll=reference_nll)
    (limit,) = torch.autograd.grad(ascent_to_reference(tokens), tokens.nll)
    (target,) = torch.autograd.grad(match_reference(tokens), tokens.nll)
    assert limit.tolist() == [-0.5, 0.0]
    assert target.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("loss", [kl_to_reference, ascent_to_reference, match_reference])
def test_losses_that_need_a_reference_say_so(loss):
    with pytest.raises(ValueError, match="needs a reference"):
        loss(tokens_of([1.0], [0]))


def test_equal_batches_average_to_the_big_batch():
    both = tokens_of([1.0, 3.0, 5.0, 2.0], [0, 0, 1, 1])
    first, second = tokens_of([1.0, 3.0], [0, 0]), tokens_of([5.0, 2.0], [0, 0])
    assert nll(both).item() == pytest.approx((nll(first).item() + nll(second).item()) / 2)


def test_a_loss_that_is_declared_separable_is():
    """A token's derivative may depend on its own value and on nothing else."""
    functions = [f for f in vars(losses).values() if callable(f) and hasattr(f, "separable_in")]
    names = {function.__name__ for function in functions}
    assert names == {
        "gradient_ascent",
        "bounded_ascent",
        "random_mismatch",
        "kl_to_reference",
        "nll",
    }
    generator = torch.Generator().manual_seed(0)
    sequence = torch.tensor([0, 0, 0, 1, 2, 2])

    def slope(function: Callable[..., Tensor], values: Tensor, reduction: Reduction) -> Tensor:
        values = values.clone().requires_grad_()
        tokens = TokenLosses(values, sequence, 3, reduction, kl=values)
        return torch.autograd.grad(function(tokens), values)[0]

    for function in functions:
        for reduction in ("mean", "sum"):
            values = torch.rand(6, generator=generator) * 20  # on both sides of the cap
            others = torch.rand(6, generator=generator) * 20
            for n in range(6):
                mixed = torch.where(torch.arange(6) == n, values, others)
                expected = slope(function, values, reduction)[n]  # type: ignore[arg-type]
                found = slope(function, mixed, reduction)[n]  # type: ignore[arg-type]
                assert found == expected, (function.__name__, n)
