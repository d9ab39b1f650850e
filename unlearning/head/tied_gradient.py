"""Adds the embedding's gradient into the output head's where both are one weight.

Each of the two has a gradient of [V, D], and autograd makes both and adds them. The embedding's is
zero but for the tokens that were read, so it is added into the head's here: with OPT's vocabulary
it would be the largest tensor of a step, and it is never allocated.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional


class TiedGradient:
    """Hands the head's gradient over to the embedding of the same forward, whose backward runs
    later.

    The head's backward passes its gradient with `put`; the embedding's backward adds its own and
    returns the sum as the weight's gradient.

    Args:
        embedding: whose weight the head has, too; see `only_looks_up`.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        self._embedding = embedding
        self._of_head: Tensor | None = None

    def embed(self, ids: Tensor) -> Tensor:
        """Embeds ids [...] to [..., D]."""
        return _Embed.apply(self._embedding.weight, ids, self._embedding.padding_idx, self)

    def put(self, of_head_VD: Tensor) -> None:
        """Takes the head's gradient, in any floating dtype; it is changed in place."""
        self._of_head = of_head_VD

    def take(self) -> Tensor | None:
        of_head, self._of_head = self._of_head, None
        return of_head


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding_idx: int | None, tied: TiedGradient):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(ids, weight)
        ctx.padding_idx, ctx.tied = padding_idx, tied
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[no-untyped-def]
        ids, weight = ctx.saved_tensors
        total = ctx.tied.take()
        if total is None:
            total = torch.zeros_like(weight)
        if ctx.padding_idx is not None:  # as `nn.Embedding`: that token is never moved
            grad = grad.masked_fill((ids == ctx.padding_idx)[..., None], 0)
        rows, grad = ids.flatten(), grad.flatten(0, -2).to(total.dtype)
        if total.device.type == "cuda":  # where `index_add_` adds in an order that varies
            total.index_put_((rows,), grad, accumulate=True)
        else:
            total.index_add_(0, rows, grad)
        return total.to(weight.dtype), None, None, None


def only_looks_up(embedding: object) -> TypeGuard[nn.Embedding]:
    """Whether a module is a plain `nn.Embedding`, without hooks, that does no more than that."""
    return (
        type(embedding) is nn.Embedding
        and embedding.max_norm is None
        and not (embedding.scale_grad_by_freq or embedding.sparse)
        and not embedding._forward_hooks
        and not embedding._forward_pre_hooks
        and not embedding._backward_hooks
    )
