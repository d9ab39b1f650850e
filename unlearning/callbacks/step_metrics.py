"""Averages logged values over the batches of one optimizer step, on their device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def on_host(scalars: Iterable[float | Tensor]) -> list[Any]:
    """Copies scalars to the host in one transfer: reading one by one would wait for each."""
    found: list[Any] = list(scalars)
    tensors = {place: value for place, value in enumerate(found) if isinstance(value, Tensor)}
    for device in {value.device for value in tensors.values()}:
        there = {place: value for place, value in tensors.items() if value.device == device}
        read = torch.stack([*there.values()]).tolist()
        for place, number in zip(there, read, strict=True):
            found[place] = number
    return found


class StepMetrics:
    """Collects what each batch of a step logged, without a transfer to the host.

    With gradient accumulation a step's loss is the mean over its batches, while Lightning shows
    the last batch's alone.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds one batch's scalars."""
        for name, value in metrics.items():
            self._values.setdefault(name, []).append(value.detach())

    def pop(self) -> dict[str, Tensor]:
        """Returns the step's means, and starts the next step."""
        values, self._values = self._values, {}
        return {n: v[0] if len(v) == 1 else torch.stack(v).mean() for n, v in values.items()}
