"""Saves checkpoints every n steps, and keeps the last few and the best."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lightning import LightningModule, Trainer
from torch import Tensor

from unlearning.callbacks.step import StepCallback
from unlearning.callbacks.step_metrics import on_host
from unlearning.checkpoints import BEST, checkpoint_path, mark_best, prune, remove_partial, save
from unlearning.errors import ConfigError

log = logging.getLogger(__name__)

STATE = ("best_step", "best_score")


class KeepCheckpoints(StepCallback):
    """Saves `<folder>/step=<n>.ckpt`, and removes older ones once the new one is whole.

    Put it after the callbacks whose state a checkpoint is to hold, before `GracefulStop`.

    Args:
        folder: where checkpoints go; it is made.
        every_n_steps: optimizer steps between two.
        keep: how many of the last ones stay.
        best: a logged metric; the checkpoint with its best value stays, too, and `best.ckpt` links
            to it. A `train/...` counts with its mean since the checkpoint before, any other as it
            was logged last. None keeps no best one.
        mode: which value is the best, `min` or `max`.
        after_save: called on rank 0 after each checkpoint.

    Raises:
        ConfigError: settings that make no sense, or, after the first batch, a `train/...` that is
            not logged. For another metric that was not logged yet, there is a warning.
    """

    def __init__(
        self,
        folder: str | Path,
        every_n_steps: int = 200,
        keep: int = 2,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        after_save: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(every_n_steps)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ConfigError(f"Checkpoints: keep={keep!r} must be a whole number of at least 1.")
        if mode not in ("min", "max"):
            raise ConfigError(f"Checkpoints: mode={mode!r}; choose 'min' or 'max'.")
        self.folder, self.keep, self.best, self.mode = Path(folder), keep, best, mode
        self.after_save = after_save
        self._reset()

    def _reset(self) -> None:
        self.best_step: int | None = None
        self.best_score: float | None = None
        # Of a `train/...` since the last checkpoint: read when there is the next one.
        self._values: list[Tensor | float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._reset()  # a resumed run's state is loaded after this

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        remove_partial(self.folder)
        if self.best_step is not None and checkpoint_path(self.folder, self.best_step).is_file():
            mark_best(self.folder, self.best_step)
        else:  # of a run whose checkpoints were all broken
            (self.folder / BEST).unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.best is not None and self.best.startswith("train/"):
            if self.best not in trainer.callback_metrics:
                raise ConfigError(
                    f"{self._not_logged(trainer)} Name one of them, or null for none."
                )
            self._values.append(trainer.callback_metrics[self.best].detach())
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _not_logged(self, trainer: Trainer) -> str:
        return (
            f"The best checkpoint is to be chosen by {self.best!r}, which is not logged; there are "
            f"{', '.join(sorted(trainer.callback_metrics))}."
        )

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        is_best = self._is_best(trainer)
        if is_best:  # before the save, so that this checkpoint knows of itself
            self.best_step = step
        save(trainer, self.folder)
        if not trainer.is_global_zero:
            return
        if is_best:
            mark_best(self.folder, step)
        prune(self.folder, step, self.keep, self.best_step)
        if self.after_save is not None:
            self.after_save()

    def _is_best(self, trainer: Trainer) -> bool:
        if self.best is None:
            return False
        values, self._values = self._values, []
        if not values and self.best not in trainer.callback_metrics:
            log.warning("%s This checkpoint is not compared.", self._not_logged(trainer))
            return False
        score = fmean(on_host(values or [trainer.callback_metrics[self.best]]))
        if self.best_score is None:
            better = score == score  # not NaN
        else:
            better = score < self.best_score if self.mode == "min" else score > self.best_score
        if better:
            self.best_score = score
        return better

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in STATE}
        return {**state, "values": on_host(self._values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state_dict[name])
        self._values = list(state_dict["values"])
