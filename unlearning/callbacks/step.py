"""Base class of callbacks that count optimizer steps instead of batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning import Callback, LightningModule, Trainer

from unlearning.errors import ConfigError


class StepCallback(Callback, ABC):
    """Calls `on_step` after every n-th optimizer step.

    Lightning's hooks count batches; with gradient accumulation most of them end without a step.
    A step's number is that of the updates made so far, so 0 is the model before training.

    Args:
        every_n_steps: how often.
        at_start: before the first step, too. Not where a run is resumed.
    """

    def __init__(self, every_n_steps: int = 1, at_start: bool = False) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ConfigError(
                f"{type(self).__name__}: every_n_steps is {every_n_steps}; it must be at least 1."
            )
        self.every_n_steps, self.at_start = every_n_steps, at_start
        self._steps_seen = 0

    @abstractmethod
    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Called on every rank, after optimizer and learning-rate schedule have stepped."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps_seen = trainer.global_step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Not in `on_train_start`: a value for each step cannot be logged there.
        if self.at_start and trainer.global_step == 0 and batch_idx == 0:
            self.on_step(trainer, pl_module, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._steps_seen:
            return
        self._steps_seen = step
        if step % self.every_n_steps == 0:
            self.on_step(trainer, pl_module, step)
