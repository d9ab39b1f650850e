"""Accumulates the gradients of hidden states, head and bias over chunks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unlearning.head.logits import BLOCK


class HeadGradients:
    """Accumulates the needed gradients of hidden states, head and bias over chunks.

    A token's slope is applied to its hidden states on one side of a product and to their gradient
    on the other, both far smaller than its logits. Sums over chunks are in fp32: many small bf16
    addends would lose their low bits."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        accum_dtype: torch.dtype,
        needed: Any,
        grad_buffer: Tensor | None,
    ) -> None:
        self.dtype, self.accum_dtype, self.begun = weight.dtype, accum_dtype, False
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = None
        if needed[1]:
            fits = (
                grad_buffer is not None
                and grad_buffer.shape == weight.shape
                and grad_buffer.dtype == accum_dtype
            )
            self.weight = grad_buffer if fits else torch.empty_like(weight, dtype=accum_dtype)
        self.bias = (
            None if bias is None or not needed[2] else torch.zeros_like(bias, dtype=accum_dtype)
        )

    def add(
        self, hidden: Tensor, head_weight: Tensor, grad: Tensor, slopes: Tensor, part: slice
    ) -> None:
        """Adds a chunk, given its gradient of the logits before the slopes."""
        if self.bias is not None:
            self.bias += slopes @ grad
        grad = grad.to(hidden.dtype)
        weights = slopes[:, None].to(hidden.dtype)
        if self.hidden is not None:
            torch.mul(grad @ head_weight, weights, out=self.hidden[part])
        if self.weight is None:
            return
        if grad.dtype != self.weight.dtype:
            scaled = hidden * weights
            # On a CPU in blocks that stay in its caches: a whole [V, D] beside the sum was fetched
            # from the system, and read again, at every chunk.
            size = BLOCK if grad.device.type == "cpu" else len(self.weight)
            for start in range(0, len(self.weight), size):
                some = slice(start, start + size)
                made = grad[:, some].t() @ scaled
                self.weight[some].add_(made) if self.begun else self.weight[some].copy_(made)
        else:
            keep = 1 if self.begun else 0  # 0: what stood there before is not read
            torch.addmm(self.weight, grad.t(), hidden * weights, beta=keep, out=self.weight)
        self.begun = True

    def scale_(self, factor: Tensor) -> None:
        for gradient in (self.hidden, self.weight, self.bias):
            if gradient is not None:
                gradient.mul_(factor)

    def finished(self) -> list[Tensor | None]:
        both = (self.weight, self.bias)
        return [self.hidden, *(None if g is None else g.to(self.dtype) for g in both)]
