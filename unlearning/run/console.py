"""What a person sees while a run works: one line a stage, and a bar where there is a terminal."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(highlight=False, soft_wrap=True)


def set_up_logging(folder: Path, rank: int = 0) -> None:
    """Our own messages to the terminal, everything to a file; libraries' chatter to the file alone.

    The file is `run.log`, and `logs/rank_<n>.log` for the ranks after the first, which have no
    terminal.
    """
    path = folder / (f"logs/rank_{rank}.log" if rank else "run.log")
    path.parent.mkdir(exist_ok=True)
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [to_file]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    if rank:
        return
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("  %(message)s"))
    to_terminal.setLevel(logging.WARNING)
    logging.getLogger("unlearning").handlers = [to_terminal]


def quiet_libraries() -> None:
    """What they have to say goes to the run's file, once there is one."""
    transformers.utils.logging.disable_progress_bar()  # a stage has a bar of ours
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True


class Stages:
    """Names the stages as they pass, and keeps their times.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self.total, self.seconds = total, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; what is appended to the yielded list ends its line."""
        number, started, notes = len(self.seconds) + 1, time.perf_counter(), list[str]()
        console.print(f"[{number}/{self.total}] {name} ...", markup=False)
        yield notes
        self.seconds[name] = time.perf_counter() - started
        note = f" ({'; '.join(notes)})" if notes else ""
        console.print(
            f"[{number}/{self.total}] {name}: {self.seconds[name]:.1f} s{note}", markup=False
        )


def bar(name: str) -> list[Callback]:
    """A progress bar with losses, rate and time left; nothing where there is no terminal."""
    return [StageBar(name)] if console.is_terminal else []


class StageBar(Callback):
    """Steps of one training with its losses and the time left.

    Lightning's own bar restarts every epoch, which says little where an epoch is a few seconds.
    """

    def __init__(self, name: str, refresh_seconds: float = 0.2) -> None:
        self.name, self.refresh_seconds, self._shown = name, refresh_seconds, 0.0
        self.progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        columns = (
            TextColumn("      {task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
        )  # fmt: skip
        self.progress = Progress(*columns, console=console, transient=True)
        self.progress.start()
        total = int(trainer.estimated_stepping_batches)
        self.task = self.progress.add_task(
            self.name, total=total, completed=trainer.global_step, losses=""
        )

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if self.progress is None or time.monotonic() - self._shown < self.refresh_seconds:
            return
        self._shown = time.monotonic()
        losses = {
            name.removeprefix("train/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and "weighted" not in name and "nll_" not in name
        }
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.progress.update(self.task, completed=trainer.global_step, losses=text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.progress is not None:
            self.progress.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self.progress is not None:
            self.progress.stop()
