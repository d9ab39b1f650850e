"""Attention masks for tree rows: who is visible to a layer, its sliding window or chunk included.

A decoder that is handed a 4-D mask leaves out its own. A window is one of positions, not of
columns: an answer token sees the prompt tokens that it would see were it alone after the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from unlearning.types import Rows

WINDOW, CHUNK = "sliding_window", "attention_chunk_size"
"""Names of the two sizes in every configuration that has them."""
LIMITED = {"full_attention": None, "sliding_attention": WINDOW, "chunked_attention": CHUNK}
"""The kinds of attention layers in `layer_types`, and the size that limits each."""
OTHER_LIMITS = ("window_size", "attention_window_size", "keep_window_size", "index_topk")
"""Sizes of attention that picks among the columns in other ways: GPT-Neo's, RecurrentGemma's,
Doge's, DeepSeek's sparse attention. They act only in long rows, which no short trial shows."""
TRIED_SIZE = 3


def attention_masks(model: PreTrainedModel, rows: Rows) -> Tensor | dict[str, Tensor]:
    """Returns what a decoder takes as the attention mask of these rows.

    Padded rows keep theirs [R, L], from which the decoder makes its own. Of tree rows [R, 1, L, L],
    it is one mask where all layers are alike, else one for each of its `layer_types`.
    """
    mask = rows.attention_mask
    if mask.ndim == 2:
        return mask.long()  # as tokenizers give it: some models subtract it
    config = model.config.get_text_config(decoder=True)
    sizes = _limits(config)
    masks = {kind: _limited(mask, rows.position_ids, *sizes[kind]) for kind in sizes}
    if config._attn_implementation == "eager":  # adds its mask to the scores
        masks = {kind: _additive(mask, model.dtype) for kind, mask in masks.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def why_no_mask(model: PreTrainedModel) -> str:
    """Says why no mask can hold what this model's attention layers see; empty where one can."""
    config = model.config.get_text_config(decoder=True)
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attn_implementation={config._attn_implementation} takes no 4-D mask"
    unknown = {str(kind) for kind in _layer_types(config)} - set(LIMITED)
    if unknown:
        return f"it has layers of {', '.join(sorted(unknown))}"
    for name in OTHER_LIMITS:
        if getattr(config, name, None):
            return f"its attention picks columns, {name}={getattr(config, name)}"
    return ""


@contextmanager
def small_windows(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, windows and chunks hold `TRIED_SIZE` positions, so that a few tokens show
    whether the masks of `attention_masks` are the decoder's own."""
    kept: list[tuple[object, str, int]] = []
    for owner in (model.config.get_text_config(decoder=True), *model.modules()):
        kept += [
            (owner, name, value)
            for name in (WINDOW, CHUNK)
            if isinstance(value := vars(owner).get(name), int) and value > TRIED_SIZE
        ]
    try:
        for owner, name, _ in kept:
            setattr(owner, name, TRIED_SIZE)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _layer_types(config: PreTrainedConfig) -> tuple[str, ...]:
    return tuple(getattr(config, "layer_types", None) or ())


def _limits(config: PreTrainedConfig) -> dict[str, tuple[int | None, int | None]]:
    """Returns (window, chunk) of each kind of layer, None where there is none."""
    sizes = {name: getattr(config, name, None) for name in (WINDOW, CHUNK)}
    kinds = dict.fromkeys(_layer_types(config))
    if not kinds:  # all layers are alike
        return {"": (sizes[WINDOW], sizes[CHUNK])}
    limited = {kind: LIMITED.get(kind) for kind in kinds}
    return {
        kind: tuple(sizes[each] if each == name else None for each in (WINDOW, CHUNK))  # type: ignore[misc]
        for kind, name in limited.items()
    }


def _limited(mask: Tensor, position_ids: Tensor, window: int | None, chunk: int | None) -> Tensor:
    """Leaves out of a mask [R, 1, L, L] what is outside the window or chunk of a position."""
    query, key = position_ids[:, None, :, None], position_ids[:, None, None, :]
    width = mask.shape[-1]  # positions are below it
    if window is not None and window < width:
        mask = mask & (query - key < window)
    if chunk is not None and chunk < width:
        mask = mask & (query // chunk == key // chunk)
    return mask


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 0 where a mask is true, and the least number of the dtype elsewhere."""
    lowest = torch.finfo(dtype).min
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
