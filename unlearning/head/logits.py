"""Computes logits of a chunk of positions, and chooses the chunk size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.token_losses import Head

ROWS = 16
"""Products of so many rows, or of a multiple, are quicker on a CPU than those of some less."""
BLOCK = 4096
"""Tokens of the vocabulary whose logits are made at once on a CPU."""


def chunks(count: int, most: int) -> Iterator[slice]:
    """Splits positions into as few chunks as possible, of like size: a small last one would cost
    nearly a whole one's reading of the head."""
    if not count:
        return
    even = -(-count // -(-count // most))
    size = min(-(-even // ROWS) * ROWS, most)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def logits_of(hidden: Tensor, head: Head) -> Tensor:
    """Computes logits [N, V] as `functional.linear`, by a faster order of products on a CPU.

    There, few rows times a transposed weight run at half the speed of the weight times the
    transposed rows, which is computed in blocks and transposed."""
    weight, bias = head
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
    each is fetched from the system page by page, which took longer than the softmax. On a GPU,
    enough for products at full speed."""
    if head_weight_VD.device.type != "cpu":
        return 1024
    return max(32, 2**25 // (4 * len(head_weight_VD)) // 32 * 32)
