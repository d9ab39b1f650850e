"""Progress bars with rate and time left; none where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning import Callback, LightningModule, Trainer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from unlearning.callbacks.step_metrics import on_host
from unlearning.run.output.console import console


class Rate(ProgressColumn):
    """Progress column: items a second, or seconds an item."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


def _progress() -> Progress:
    return Progress(
        TextColumn("      {task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
        console=console, transient=True, speed_estimate_period=30,
    )  # fmt: skip


def bar(name: str) -> list[Callback]:
    """Returns a progress bar callback with losses, in a list; an empty list without a terminal."""
    return [StageBar(name)] if console.is_terminal and not console.quiet else []


@contextmanager
def counting(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar over `total` items; the yielded function is told how many more are done."""
    if not console.is_terminal or console.quiet:
        yield lambda more: None
        return
    with _progress() as progress:
        task = progress.add_task(name, total=total, losses="")
        yield lambda more: progress.advance(task, more)


class StageBar(Callback):
    """Progress bar of one training: steps, losses, rate and time left.

    Lightning's own bar restarts every epoch, which says little where an epoch is a few seconds.
    """

    def __init__(self, name: str, refresh_seconds: float = 0.2) -> None:
        self.name, self.refresh_seconds, self._shown = name, refresh_seconds, 0.0
        self.progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.progress = _progress()
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
            name.removeprefix("train/"): value
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and "weighted" not in name and "nll_" not in name
        }
        numbers = zip(losses, on_host(losses.values()), strict=True)
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers)
        self.progress.update(self.task, completed=trainer.global_step, losses=text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.progress is not None:
            self.progress.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self.progress is not None:
            self.progress.stop()
