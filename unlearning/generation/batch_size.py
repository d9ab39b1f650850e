"""Chooses batch sizes from the memory that is free."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import torch
from transformers import PretrainedConfig

log = logging.getLogger(__name__)

MOST_ROWS = 256
"""More at once are hardly faster, and each holds memory."""
SHARE = 0.5
"""Of the free memory: the rest is for what the estimate leaves out, and for others."""


def bytes_a_row(
    config: PretrainedConfig, prompt_tokens: int, new_tokens: int, element: int = 4
) -> int:
    """Estimates the memory that one row of a batch takes while its prompt is read and continued.

    The keys and values of all its tokens; its logits, as they are made and in fp32; and of the
    prompt what one layer holds at a time: six states as wide as the model, and the inside of its
    feed-forward block twice.

    Args:
        element: bytes of a number in the model's dtype.
    """
    config = config.get_text_config()
    width = config.hidden_size
    heads = getattr(config, "num_attention_heads", None) or 1  # none in a state space model
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = _size(config, "head_dim") or width // heads
    inner = _size(config, "ffn_dim", "intermediate_size", "n_inner") or 4 * width
    tokens = prompt_tokens + new_tokens
    cache = config.num_hidden_layers * 2 * kv_heads * head_size * tokens * element
    logits = config.vocab_size * (element + 4)
    activations = prompt_tokens * (6 * width + 2 * inner) * element
    return int(cache + logits + activations)


def _size(config: PretrainedConfig, *names: str) -> int:
    """Returns the first of these sizes that is set, 0 if none is; the largest, where it differs
    from layer to layer."""
    settings = config.to_dict()
    sizes = next((settings[name] for name in names if settings.get(name) is not None), 0)
    return max(sizes) if isinstance(sizes, (list, tuple)) else int(sizes)


def rows_that_fit(row_bytes: int, free_bytes: int, most: int = MOST_ROWS) -> int:
    """Returns how many rows fit in memory, as a power of two of at least 1: a little more or less
    free memory changes nothing.

    Where rows are computed in bf16, their number can change the choice between two almost equally
    likely tokens, and a repeated run has to give the same answers.

    Examples:
        >>> rows_that_fit(row_bytes=1, free_bytes=40)
        16
    """
    rows = min(int(free_bytes * SHARE) // max(row_bytes, 1), most)
    return 1 << max(rows, 1).bit_length() - 1


def free_memory(device: torch.device) -> int:
    """Returns the bytes that can still be allocated on a device, torch's unused cache included."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    names = getattr(os, "sysconf_names", {})  # none on Windows, no AVPHYS on macOS
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if "SC_PHYS_PAGES" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return 2**31


def in_batches(numbers: Sequence[int], size: int, work: Callable[[list[int]], None]) -> None:
    """Calls `work` on the numbers in batches of at most `size`.

    Whenever CUDA runs out of memory, the size is halved for good, and `work` is called again with
    the first half of the same numbers.

    Raises:
        torch.OutOfMemoryError: not even one fits.

    Examples:
        >>> batches = []
        >>> in_batches(range(5), 2, batches.append)
        >>> batches
        [[0, 1], [2, 3], [4]]
    """
    start = 0
    while start < len(numbers):
        part = list(numbers[start : start + size])
        if _fits(work, part):
            start += len(part)
            continue
        # Out here the error is gone, and with it the frames that held the batch's tensors.
        size = len(part) // 2
        torch.cuda.empty_cache()
        log.warning("Out of GPU memory with %d rows at once; going on with %d.", len(part), size)


def _fits(work: Callable[[list[int]], None], part: list[int]) -> bool:
    try:
        work(part)
    except torch.OutOfMemoryError:
        if len(part) == 1:
            raise
        return False
    return True
