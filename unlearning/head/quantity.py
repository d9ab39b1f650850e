"""Computes token quantities from hidden states and the output head, in chunks, with their
gradients.

The gradient by a chunk's logits is made inside the chunk by autograd, so that the logits of one
chunk exist at once, whatever the function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.logits import Head, softcap_slope, softcapped_
from unlearning.quantities import TokenQuantity


def value_and_gradient(
    quantity: TokenQuantity, logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Computes values_N of a quantity, and their derivatives [N, V] by the logits."""
    with torch.enable_grad():
        leaf = logits_NV.detach().requires_grad_()
        values_N = quantity(leaf, targets_N, reference_NV)
        (gradient,) = torch.autograd.grad(values_N.sum(), leaf, allow_unused=True)
    return values_N.detach(), torch.zeros_like(logits_NV) if gradient is None else gradient


def quantity_values(
    quantity: TokenQuantity,
    hidden_ND: Tensor,
    head: Head,
    targets_N: Tensor,
    reference_hidden_ND: Tensor | None = None,
    reference_head: Head | None = None,
    chunk_size: int = 256,
) -> Tensor:
    """Computes values_N of a quantity, differentiable in the policy's hidden states, head weight
    and bias.

    The backward computes each chunk's logits again, as that of `token_losses` does.

    Args:
        hidden_ND: the policy's last hidden states at the positions that predict the targets.
        reference_hidden_ND: the reference's, for a quantity that needs it, with `reference_head`.
        chunk_size: positions whose logits are held at once.

    Raises:
        ValueError: the quantity needs the reference, and none is given.
    """
    reference = None
    if quantity.needs_reference:
        if reference_hidden_ND is None or reference_head is None:
            raise ValueError(f"{quantity.function!r} needs the reference's states and head.")
        reference = (reference_hidden_ND, reference_head)
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):  # one dtype for forward and backward, chosen here
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        return _QuantityValues.apply(hidden_ND, *head, quantity, targets_N, reference, chunk_size)


class _QuantityValues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden, weight, bias, softcap, quantity, targets, reference, chunk_size):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.softcap = softcap
        ctx.quantity, ctx.reference, ctx.chunk_size = quantity, reference, chunk_size
        values = [
            quantity(logits, targets[part], others)
            for part, logits, others in _chunks(ctx, hidden, Head(weight, bias, softcap))
        ]
        empty = hidden.new_zeros(0, dtype=torch.promote_types(hidden.dtype, torch.float32))
        return torch.cat([empty, *values])

    @staticmethod
    def backward(ctx: Any, grad_values):  # type: ignore[no-untyped-def]
        hidden, weight, bias, targets = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        accum_dtype = torch.promote_types(weight.dtype, torch.float32)
        head_weight = weight.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=accum_dtype) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=accum_dtype) if need_bias else None
        for part, logits, others in _chunks(ctx, hidden, Head(weight, bias, ctx.softcap)):
            _, grad = value_and_gradient(ctx.quantity, logits, targets[part], others)
            grad *= grad_values[part, None]
            slope = softcap_slope(logits, ctx.softcap)
            if slope is not None:
                grad *= slope
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad @ head_weight
            if grad_weight is not None:
                grad_weight += grad.t() @ hidden[part]
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None, None, None, None, None,
        )  # fmt: skip


def _chunks(ctx: Any, hidden: Tensor, head: Head):  # type: ignore[no-untyped-def]
    """Yields (positions, logits, the reference's logits or None) of each chunk, in fp32 at
    least."""
    accum_dtype = torch.promote_types(hidden.dtype, torch.float32)
    head = head.cast(hidden.dtype)
    others = None
    if ctx.reference is not None:
        other_hidden, other_head = ctx.reference[0], ctx.reference[1].cast(hidden.dtype)
    for start in range(0, len(hidden), ctx.chunk_size):
        part = slice(start, start + ctx.chunk_size)
        logits = _logits(hidden[part], head, accum_dtype)
        if ctx.reference is not None:
            states = other_hidden[part].to(hidden.dtype)
            others = _logits(states, other_head, accum_dtype)
        yield part, logits, others


def _logits(hidden: Tensor, head: Head, dtype: torch.dtype) -> Tensor:
    products = functional.linear(hidden, head.weight, head.bias)
    return softcapped_(products.to(dtype), head.softcap)
