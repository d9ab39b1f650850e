"""Chunked linear cross-entropy and KL: per-token NLL, and KL from a frozen reference, without the
logits of a batch.

Both are computed from hidden states and the output head, in chunks of positions, so that no
[B, T, V] tensor of logits ever exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.logits import Head, softcap_slope, softcapped_


def token_losses(
    hidden_ND: Tensor,
    head: Head,
    targets_N: Tensor,
    reference_hidden_ND: Tensor | None = None,
    reference_head: Head | None = None,
    chunk_size: int = 512,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Computes the NLL, the KL to the reference and the reference's NLL at N positions.

    Args:
        hidden_ND: the policy's last hidden states at the positions that predict the targets.
        head: the policy's output head.
        targets_N: the tokens to predict.
        reference_hidden_ND: the reference's hidden states at the same positions, or None.
        reference_head: the reference's output head; needed with the above.
        chunk_size: positions whose logits are held at once.

    Returns:
        nll_N, kl_N and reference_nll_N, in fp32 (fp64 for fp64 input); the last two None without
        a reference. Differentiable in the policy's hidden states, head weight and bias.

    Raises:
        ValueError: hidden states of the reference come without its head.

    Examples:
        >>> hidden = torch.zeros(1, 2)
        >>> head = Head(torch.eye(4, 2))  # logits 0: uniform over four tokens
        >>> nll, kl, reference_nll = token_losses(hidden, head, torch.tensor([3]), hidden, head)
        >>> round(nll.item(), 4), kl.item()  # log 4, and no difference from the reference
        (1.3863, 0.0)
    """
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):  # one dtype for forward and backward, chosen here
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(device))
    reference = None
    if reference_hidden_ND is not None:
        if reference_head is None:
            raise ValueError("reference_hidden_ND was given without reference_head.")
        reference = (reference_hidden_ND, reference_head)
    with torch.autocast(device, enabled=False):
        nll_N, kl_N, reference_nll_N = _HeadLoss.apply(
            hidden_ND, *head, targets_N, reference, chunk_size
        )
    return (nll_N, None, None) if reference is None else (nll_N, kl_N, reference_nll_N)


def _logits(hidden: Tensor, head: Head) -> Tensor:
    """Computes logits in fp32 at least, whatever the products' dtype."""
    products = functional.linear(hidden, head.weight, head.bias)
    accum_dtype = torch.promote_types(products.dtype, torch.float32)
    return softcapped_(products.to(accum_dtype), head.softcap)


def _log_probs(hidden: Tensor, head: Head) -> Tensor:
    """Computes log-probabilities over the vocabulary."""
    return _logits(hidden, head).log_softmax(dim=-1)


class _HeadLoss(torch.autograd.Function):
    """Autograd function of `token_losses`: head, softmax, NLL and KL chunk by chunk.

    With p the policy's and q the reference's distribution,
    d nll / d logits = p - onehot(target) and d KL(q || p) / d logits = p - q, each times the slope
    of a soft cap. The backward computes each chunk's logits again rather than keep them: one more
    product with the head for a memory that does not grow with the number of positions.
    """

    @staticmethod
    def forward(ctx: Any, hidden, weight, bias, softcap, targets, reference, chunk_size):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.softcap, ctx.reference, ctx.chunk_size = softcap, reference, chunk_size
        head = Head(weight, bias, softcap).cast(hidden.dtype)
        if reference is not None:
            reference_hidden = reference[0].to(hidden.dtype)
            reference_head = reference[1].cast(hidden.dtype)
        accum_dtype = torch.promote_types(hidden.dtype, torch.float32)
        nll, kl, reference_nll = torch.zeros(
            3, len(targets), dtype=accum_dtype, device=hidden.device
        )
        for start in range(0, len(targets), chunk_size):
            part = slice(start, start + chunk_size)
            log_p, target = _log_probs(hidden[part], head), targets[part, None]
            nll[part] = -log_p.gather(1, target).squeeze(1)
            if reference is not None:
                log_q = _log_probs(reference_hidden[part], reference_head)
                kl[part] = (log_q.exp() * (log_q - log_p)).sum(1)
                reference_nll[part] = -log_q.gather(1, target).squeeze(1)
        ctx.mark_non_differentiable(reference_nll)
        return nll, kl, reference_nll

    @staticmethod
    def backward(ctx: Any, grad_nll, grad_kl, _grad_reference):  # type: ignore[no-untyped-def]
        hidden, weight, bias, targets = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        head = Head(weight, bias, ctx.softcap).cast(hidden.dtype)
        if ctx.reference is not None:
            reference_hidden = ctx.reference[0].to(hidden.dtype)
            reference_head = ctx.reference[1].cast(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        # Summed over chunks in fp32: many small bf16 addends would lose their low bits.
        accum_dtype = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=accum_dtype) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=accum_dtype) if need_bias else None
        for start in range(0, len(targets), ctx.chunk_size):
            part = slice(start, start + ctx.chunk_size)
            logits = _logits(hidden[part], head)
            slope = softcap_slope(logits, ctx.softcap)
            grad = logits.log_softmax(dim=-1).exp_()
            if ctx.reference is None:
                grad *= grad_nll[part, None]
            else:
                grad *= (grad_nll[part] + grad_kl[part])[:, None]
                grad -= (
                    _log_probs(reference_hidden[part], reference_head).exp_() * grad_kl[part, None]
                )
            grad.scatter_add_(1, targets[part, None], -grad_nll[part, None].to(grad.dtype))
            if slope is not None:
                grad *= slope
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad @ head.weight
            if grad_weight is not None:
                grad_weight += grad.t() @ hidden[part]
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None, None, None, None,
        )  # fmt: skip
