"""Decodes one batch of prompts, dropping rows that have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from unlearning.generation.kv_cache import PreallocatedLayer, preallocated_cache
from unlearning.generation.sampling import Drawn, Sampling
from unlearning.generation.stopping import Ended, StopRule
from unlearning.models.decoder import CausalLM, unwrap

DROPS_ROWS = ("cpu",)
"""Devices where a row fewer makes a step shorter. On a GPU, a step of so few tokens takes as long
as it takes to launch it and to read the weights."""


def continuations(
    model: CausalLM,
    rows_BL: Tensor,
    mask_BL: Tensor,
    max_new_tokens: int,
    pad: int,
    stop: StopRule,
    options: dict[str, Any],
    sampling: Sampling | None = None,
    draws_BT: Tensor | None = None,
    on_ended: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Generates the new tokens of each row; what follows its end is arbitrary.

    Hugging Face computes ended rows until the last one has ended. Here the batch stops when a part
    of its rows has ended, and the others continue without them from their keys and values.

    Args:
        sampling: how tokens are drawn; None is greedy, or as `options` say.
        draws_BT: [rows, max_new_tokens] of it.
        on_ended: told how many more rows have ended.
    """
    width, limit = rows_BL.shape[1], rows_BL.shape[1] + max_new_tokens
    greedy = {"do_sample": False, "num_beams": 1, "use_cache": True}
    # Other ways to decode may count from where they start, or draw for all rows at once.
    ends = bool(stop.tokens or stop.strings)
    dropping = not options and ends and rows_BL.device.type in DROPS_ROWS
    numbers = list(range(len(rows_BL)))  # of the rows still in the batch
    said: dict[int, list[int]] = {}
    # Other ways to decode may need another cache; the last token said is not read.
    cache: Cache | None = None if options else preallocated_cache(unwrap(model), limit - 1)
    while True:
        ended = Ended(stop, len(rows_BL), width, together=dropping)
        drawn = []
        if sampling is not None and draws_BT is not None:
            drawn = [Drawn(sampling, draws_BT[numbers], width)]
        output = model.generate(  # type: ignore[operator]
            input_ids=rows_BL, attention_mask=mask_BL, max_new_tokens=limit - rows_BL.shape[1],
            pad_token_id=pad, eos_token_id=list(stop.tokens) or None,
            stopping_criteria=[ended] if dropping or stop.strings else None,
            logits_processor=drawn or None, return_dict_in_generate=True,
            **{**greedy, **_going_on(cache), **options},
        )  # fmt: skip
        rows_BL = output.sequences
        said |= zip(numbers, rows_BL[:, width:].tolist(), strict=True)
        done = not dropping or rows_BL.shape[1] >= limit or bool(ended.rows_B.all())
        if on_ended is not None:
            on_ended(len(numbers) if done else int(ended.rows_B.sum()))
        if done:
            return [said[number] for number in range(len(said))]
        left = (~ended.rows_B).nonzero()[:, 0]
        numbers = [numbers[i] for i in left.tolist()]
        grown = mask_BL.new_ones(len(mask_BL), rows_BL.shape[1] - mask_BL.shape[1])
        rows_BL, mask_BL = rows_BL[left], torch.cat([mask_BL, grown], dim=1)[left]
        cache = _of_rows(output.get("past_key_values"), left)
        dropping = cache is not None  # else read again what has been said, but once only


def _going_on(cache: Cache | None) -> dict[str, Any]:
    return {} if cache is None else {"past_key_values": cache}


def _of_rows(cache: Any, rows: Tensor) -> Cache | None:
    """Selects the keys and values of some rows; None for a cache that holds more than keys and
    values."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer, PreallocatedLayer)
    if not (isinstance(cache, DynamicCache) and all(type(lay) in plain for lay in cache.layers)):
        return None
    cache.batch_select_indices(rows)
    return cache
