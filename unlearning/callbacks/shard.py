"""Shards prompts over ranks and gathers the results.

For data parallelism, where each rank holds the whole model. Collective: all ranks have to call
`gather`, also those without results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch.distributed
from lightning import Trainer

T = TypeVar("T")


def shard(count: int, trainer: Trainer) -> range:
    """Returns the numbers below `count` that are this rank's; a rank may get none."""
    return range(trainer.global_rank, count, trainer.world_size)


def gather(found: Mapping[int, T], trainer: Trainer) -> list[T]:
    """Gathers all ranks' results on every rank, in ascending order, each number once."""
    parts: list[Any] = [dict(found)]
    if trainer.world_size > 1:
        parts = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, dict(found))
    merged: dict[int, T] = {}
    for part in parts:
        merged.update(part)
    return [merged[number] for number in sorted(merged)]
