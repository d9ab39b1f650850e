"""Running means of logged values over the last optimizer steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearning.callbacks.step_metrics import StepMetrics, on_host
from unlearning.errors import ConfigError


class LossWindow:
    """Keeps a few named scalars of each step on their device, until they are asked for.

    Args:
        length: steps that are kept.
        mean_over: steps, the last ones, that a mean is over.

    Examples:
        >>> window = LossWindow(length=2, mean_over=2)
        >>> window.names = ("train/total",)
        >>> for value in (1.0, 2.0, 4.0):
        ...     window.add_batch({"train/total": torch.tensor(value)})
        ...     window.end_step()
        >>> window.means()
        (tensor([3.]), tensor(True))
    """

    def __init__(self, length: int, mean_over: int) -> None:
        self.names: tuple[str, ...] = ()
        self.mean_over = mean_over
        self._step = StepMetrics()
        self._rows: deque[dict[str, Tensor]] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._rows)

    def add_batch(self, logged: Mapping[str, Tensor]) -> None:
        """Adds what a batch logged, of which `names` are kept.

        Raises:
            ConfigError: one of them was not logged.
        """
        if missing := sorted(set(self.names) - set(logged)):
            raise ConfigError(
                f"{', '.join(missing)} is watched and was not logged; there are {sorted(logged)}. "
                "Take the limit off, give its term a weight, or name another metric."
            )
        self._step.add({name: logged[name] for name in self.names})

    def end_step(self) -> None:
        """Ends an optimizer step: the batches since the last call belong to it."""
        self._rows.append(self._step.pop())

    def clear(self) -> None:
        self._rows.clear()

    def means(self) -> tuple[Tensor, Tensor]:
        """Returns [names] means over the last steps, and whether all kept values are finite
        (bool)."""
        table = torch.stack([torch.stack([row[n] for n in self.names]) for row in self._rows])
        return table[-self.mean_over :].float().mean(0), table.isfinite().all()

    def to(self, device: torch.device) -> None:
        for row in self._rows:
            row.update({name: value.to(device) for name, value in row.items()})

    def state_dict(self) -> list[dict[str, float]]:
        numbers = iter(on_host(value for row in self._rows for value in row.values()))
        return [{name: next(numbers) for name in row} for row in self._rows]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        self._rows.clear()
        self._rows.extend({n: torch.tensor(v) for n, v in row.items()} for row in state)
