"""A key/value cache that is allocated once for all tokens to come.

Hugging Face's cache makes a new tensor for every token and copies all of the old ones into it. Its
static cache does not, but attends to all the room there is, and cannot select rows.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer, [B, H, L, D] each: the first L of `tokens` allocated places.

    Args:
        tokens: for how many there is room at first; more are taken, at the price of a copy.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self._room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._has_room(end):
            assert self.keys is not None and self.values is not None
            self._room = (
                self._moved(self.keys, key_states, start, end),
                self._moved(self.values, value_states, start, end),
            )
        assert self._room is not None
        keys, values = self._room
        keys[..., start:end, :], values[..., start:end, :] = key_states, value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        return self.keys, self.values

    def _has_room(self, end: int) -> bool:
        """Whether the next tokens fit in the allocated memory; not after rows were selected or
        reordered."""
        if self._room is None or self.keys is None:
            return False
        keys, _ = self._room
        return keys.data_ptr() == self.keys.data_ptr() and end <= keys.shape[-2]

    def _moved(self, old: Tensor, new: Tensor, start: int, end: int) -> Tensor:
        rows, heads, _, width = new.shape
        room = new.new_empty(rows, heads, max(self.tokens, end), width)
        if start:
            room[..., :start, :] = old
        return room


def preallocated_cache(model: PreTrainedModel, tokens: int) -> DynamicCache | None:
    """Returns an empty cache with room for so many tokens; None for a model whose cache holds
    other things than every token's keys and values, or that is set to another cache."""
    supported = getattr(model, "_supports_default_dynamic_cache", None)
    settings = getattr(model, "generation_config", None)
    if supported is None or not supported() or settings is None or settings.cache_implementation:
        return None
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return None
    cache = DynamicCache(config=model.config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [PreallocatedLayer(tokens) for _ in cache.layers]
    return cache
