"""Soft-capped logits, c tanh(z / c), in every pass over the head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unlearning.generation.likelihood import _first_choices
from unlearning.head.fused import Answers, separable_loss
from unlearning.head.logits import Head, softcap_slope, softcapped_
from unlearning.head.quantity import quantity_values
from unlearning.head.token_losses import token_losses
from unlearning.quantities import TokenQuantity, token_quantity

CAP, REFERENCE_CAP = 2.0, 3.0


@token_quantity(needs_reference=True)
def squared_difference(logits, targets, reference):
    return (logits.log_softmax(-1) - reference.log_softmax(-1)).square().sum(-1)


QUANTITY = TokenQuantity(squared_difference)


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    trained = {"hidden": normal(7, 6), "weight": normal(13, 6), "bias": normal(13)}
    return {
        **{name: tensor.requires_grad_() for name, tensor in trained.items()},
        "reference": normal(7, 6), "reference_weight": normal(13, 6),
        "targets": torch.randint(13, (7,), generator=generator),
    }  # fmt: skip


def naive(given: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """NLL, KL and quantity from all logits at once, by torch's own losses."""
    logits = CAP * torch.tanh((given["hidden"] @ given["weight"].T + given["bias"]) / CAP)
    others = given["reference"] @ given["reference_weight"].T
    others = REFERENCE_CAP * torch.tanh(others / REFERENCE_CAP)
    nll = functional.cross_entropy(logits, given["targets"], reduction="none")
    kl = functional.kl_div(
        logits.log_softmax(-1), others.log_softmax(-1), reduction="none", log_target=True
    )
    return nll, kl.sum(-1), squared_difference(logits, given["targets"], others)


def heads(given: dict[str, Tensor]) -> tuple[Head, Head]:
    head = Head(given["weight"], given["bias"], CAP)
    return head, Head(given["reference_weight"], None, REFERENCE_CAP)


def test_a_cap_and_its_slope_by_hand():
    # z = 2 atanh(1/2) = ln 3 under a cap of 2 is 2 tanh(z / 2) = 1, where the slope is 1 - (1/2)^2.
    logits = softcapped_(torch.tensor([[math.log(3), 0.0, -1e9]]), 2.0)
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.0, -2.0]]))
    slope = softcap_slope(logits, 2.0)
    assert slope is not None
    torch.testing.assert_close(slope, torch.tensor([[0.75, 1.0, 0.0]]))


@pytest.mark.parametrize("chunk_size", [2, 512])
@pytest.mark.parametrize("which", ["nll", "kl", "quantity"])
@pytest.mark.parametrize("passes", ["one", "two"])
def test_values_and_gradients_are_those_of_all_logits_at_once(chunk_size, which, passes):
    given = inputs()
    mix = torch.linspace(-1, 2, 7, dtype=torch.float64)
    expected = naive(given)[("nll", "kl", "quantity").index(which)]
    trained = [given[name] for name in ("hidden", "weight", "bias")]
    wanted = torch.autograd.grad((mix * expected).sum(), trained)
    head, reference_head = heads(given)
    hidden, targets, reference = given["hidden"], given["targets"], given["reference"]
    if passes == "one":
        some = Answers(
            hidden, targets, lambda _: mix, None if which == "nll" else reference,
            QUANTITY if which == "quantity" else None,
        )  # fmt: skip
        total, [values] = separable_loss([some], head, reference_head, chunk_size)
        found = getattr(values, which)
    elif which == "quantity":
        found = quantity_values(
            QUANTITY, hidden, head, targets, reference, reference_head, chunk_size
        )
        total = (mix * found).sum()
    else:
        nll, kl, _ = token_losses(hidden, head, targets, reference, reference_head, chunk_size)
        found = {"nll": nll, "kl": kl}[which]
        total = (mix * found).sum()
    torch.testing.assert_close(found, expected.detach() if passes == "one" else expected)
    for ours, theirs in zip(torch.autograd.grad(total, trained), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


def test_the_first_of_tokens_at_the_cap_is_chosen_as_the_model_does():
    """Both are at the cap in fp32, where the model's greedy decoding takes the first."""
    head = Head(torch.tensor([[90.0], [100.0], [1.0]]), None, 2.0)
    assert _first_choices(torch.ones(1, 1), head).tolist() == [0]
