"""The output head; computes logits of a chunk of positions, and chooses the chunk size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 16
"""Products of so many rows, or of a multiple, are quicker on a CPU than those of some less."""
BLOCK = 4096
"""Tokens of the vocabulary whose logits are made at once on a CPU."""


class Head(NamedTuple):
    """Output head: logits are z = hidden @ weight.T + bias, or, with a cap as in Gemma 2 (arXiv
    2408.00118, Section 2), softcap * tanh(z / softcap).

    Attributes:
        weight: [V, D].
        bias: [V], or None.
        softcap: above 0; None leaves z as it is.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None

    def cast(self, dtype: torch.dtype) -> Head:
        """Casts weight and bias to the dtype of the products."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return Head(self.weight.to(dtype), bias, self.softcap)


def softcapped_(logits: Tensor, softcap: float | None) -> Tensor:
    """Overwrites the products of hidden states and head with the logits; without a cap they are
    these already."""
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def softcap_slope(logits: Tensor, softcap: float | None) -> Tensor | None:
    """Computes the derivative of capped logits [N, V] by the products they were made of,
    1 - (logits / softcap)^2; None without a cap."""
    return None if softcap is None else 1 - (logits / softcap).square_()


def chunks(count: int, most: int) -> Iterator[slice]:
    """Splits positions into as few chunks as possible, of like size: a small last one would cost
    nearly a whole one's reading of the head."""
    if not count:
        return
    even = -(-count // -(-count // most))
    size = min(-(-even // ROWS) * ROWS, most)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def logits_of(hidden: Tensor, head: Head, dtype: torch.dtype) -> Tensor:
    """Computes logits [N, V] in `dtype` from products in the hidden states' own."""
    return softcapped_(_products(hidden, head).to(dtype), head.softcap)


def _products(hidden: Tensor, head: Head) -> Tensor:
    """Computes `functional.linear`, by a faster order of products on a CPU.

    There, few rows times a transposed weight run at half the speed of the weight times the
    transposed rows, which is computed in blocks and transposed."""
    weight, bias, _ = head
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32:
        return functional.linear(hidden, weight, bias)
    rows = len(hidden)
    columns = hidden.new_zeros(hidden.shape[1], -(-rows // ROWS) * ROWS)
    columns[:, :rows] = hidden.t()
    logits = hidden.new_empty(rows, len(weight))
    for start in range(0, len(weight), BLOCK):
        part = slice(start, start + BLOCK)
        logits[:, part] = (weight[part] @ columns)[:, :rows].t()
    return logits if bias is None else logits.add_(bias)


def chunk_rows(head_weight_VD: Tensor) -> int:
    """Returns the number of rows of logits that are worth holding at once.

    On a CPU, as many as fit in 32 MB of fp32: the largest piece that the C library reuses; above,
    each is fetched from the system page by page, which took longer than the softmax. But no fewer
    than 128: at each chunk the whole head is read and its gradient written, which at 32 rows of
    262,144 logits took longer than the products. On a GPU, enough for products at full speed."""
    if head_weight_VD.device.type != "cpu":
        return 1024
    return max(128, 2**25 // (4 * len(head_weight_VD)) // 32 * 32)
