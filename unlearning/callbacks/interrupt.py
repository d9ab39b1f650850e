"""Stops training at Ctrl-C or SIGTERM after the current step, with a checkpoint to resume from."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from unlearning.callbacks.step import StepCallback
from unlearning.checkpoints import save
from unlearning.errors import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_SIGNAL = 1.0
"""Seconds in which a second Ctrl-C is taken for the first one: a terminal sends it to a whole group
of processes, and the one that started the others may pass it on besides."""


class GracefulStop(StepCallback):
    """Ends the training after the current step at SIGINT (Ctrl-C) or SIGTERM, and saves a
    checkpoint.

    Then `<folder>/step=<n>.ckpt` is written and the trainer stops. A second Ctrl-C raises
    `KeyboardInterrupt` at once; further SIGTERMs change nothing, since schedulers repeat them while
    they wait. With several ranks, a signal to one of them stops all at the same step. Outside the
    main thread, where Python allows no signal handlers, nothing is handled here.

    Put it after the other callbacks: what follows it has not seen the step that is saved.

    Args:
        folder: where the checkpoint goes; it is made.
        resume_command: the command that resumes the run, as shown to the user.

    Attributes:
        signal: what ended the last fit, the same on every rank; None where no signal did.
        path: the checkpoint that was then saved.

    Raises:
        ConfigError: when training starts, if a callback with a state comes after this one.
    """

    def __init__(self, folder: str | Path, resume_command: str) -> None:
        super().__init__()
        self.folder, self.resume_command = Path(folder), resume_command
        self.signal: signal.Signals | None = None
        self.path: Path | None = None
        self._asked: signal.Signals | None = None
        self._asked_at = 0.0
        self._speaks = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def interrupted(self) -> bool:
        """Whether the last fit was ended by a signal."""
        return self.signal is not None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._check_place(trainer)
        self.signal = self.path = self._asked = None
        self._speaks = trainer.is_global_zero
        # Only now: Lightning installs its own handlers, which this replaces, just before.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def _check_place(self, trainer: Trainer) -> None:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        for late in callbacks[callbacks.index(self) + 1 :]:
            if not isinstance(late, Checkpoint) and late.state_dict():
                raise ConfigError(
                    f"{type(late).__name__} comes after GracefulStop, so that a checkpoint would "
                    "hold its state from the step before. Put GracefulStop last."
                )

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._asked is not None
        if again and (number == signal.SIGTERM or time.monotonic() - self._asked_at < ONE_SIGNAL):
            return
        if again:
            raise KeyboardInterrupt
        self._asked, self._asked_at = signal.Signals(number), time.monotonic()
        if self._speaks:  # not `print`, which may be what was interrupted
            more = b" Once more to stop at once." if number == signal.SIGINT else b""
            os.write(2, b"\nFinishing this step, then saving." + more + b"\n")

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        if not self.interrupted and self._wanted(trainer):
            self._save(trainer, step)
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.interrupted and self._wanted(trainer):  # it came after the last step
            self._save(trainer, trainer.global_step)
        self._restore_handlers()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    def _wanted(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to stop."""
        asked = self._asked is not None
        if trainer.world_size == 1:
            return asked
        # Not the strategy's decision, which puts a barrier before it: this is in every step.
        device = trainer.strategy.root_device
        any_asked = torch.full((), int(asked), dtype=torch.int32, device=device)
        dist.all_reduce(any_asked, op=dist.ReduceOp.MAX)
        return bool(any_asked)

    def _save(self, trainer: Trainer, step: int) -> None:
        ended = self._asked is signal.SIGTERM
        any_ended = trainer.strategy.reduce_boolean_decision(ended, all=False)
        self.signal = signal.SIGTERM if any_ended else signal.SIGINT
        self.path = save(trainer, self.folder)
        if trainer.is_global_zero:
            print(f"Stopped after step {step}; saved {self.path}. Resume: {self.resume_command}")

    def _restore_handlers(self) -> None:
        previous, self._previous = self._previous, {}
        for number, handler in previous.items():
            signal.signal(number, handler)
