"""Shows how far the loops of a run are: bars in a terminal, lines of text elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
from unlearning.progress import Advance, Loop, counting, shown_by
from unlearning.run.output.console import console, say
from unlearning.run.output.lines import Lines, beating

INDENT = "      "  # below the lines of the stages


@contextmanager
def showing(seconds: float) -> Iterator[None]:
    """Context in which the loops of a run are shown, on the rank that has the terminal.

    Args:
        seconds: at most so long is silence where there is no terminal; 0 prints no lines there.
    """
    with ExitStack() as stack:
        if console.quiet:
            pass
        elif console.is_terminal and not console.is_dumb_terminal:
            stack.enter_context(shown_by(Bars().show))
        elif seconds > 0:
            lines = Lines(seconds, lambda text: say(INDENT + text))
            stack.enter_context(shown_by(lines.show))
            stack.enter_context(beating(lines))
        yield


class Rate(ProgressColumn):
    """Progress column: items a second, or seconds an item."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Bars:
    """Progress bars with rate and time left; a loop inside another has its bar below."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @contextmanager
    def show(self, loop: Loop) -> Iterator[Advance]:
        """Context of a loop; see `unlearning.progress.counting`."""
        if loop.total is None:  # the stage's own line says what is under way
            yield lambda more, note=None: None
            return
        with self._shown() as progress:
            task = progress.add_task(loop.name, total=loop.total, completed=loop.begun, note="")

            def advance(more: int, note: str | None = None) -> None:
                progress.update(task, advance=more)
                if note is not None:
                    progress.update(task, note=note)

            try:
                yield advance
            finally:
                progress.refresh()
                progress.remove_task(task)

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        if self._progress is not None:
            yield self._progress
            return
        with Progress(
            TextColumn(INDENT + "{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            console=console, transient=True, speed_estimate_period=30,
        ) as self._progress:  # fmt: skip
            try:
                yield self._progress
            finally:
                self._progress = None


class StageProgress(Callback):
    """Shows the steps of one training with its losses.

    Lightning's own bar restarts every epoch, which says little where an epoch is a few seconds.

    Args:
        refresh_seconds: between two readings of the losses, which wait for the device.
    """

    def __init__(self, name: str, refresh_seconds: float = 1.0) -> None:
        self.name, self.refresh_seconds = name, refresh_seconds
        self._read, self._steps = 0.0, 0
        self._open = ExitStack()
        self._advance: Advance | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._steps = trainer.global_step
        loop = counting(
            self.name, int(trainer.estimated_stepping_batches), "step", begun=self._steps
        )
        self._advance = self._open.enter_context(loop)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if self._advance is None:
            return
        note, now = None, time.monotonic()
        if now - self._read >= self.refresh_seconds:
            note, self._read = losses(trainer), now
        self._advance(trainer.global_step - self._steps, note)
        self._steps = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._advance is not None:
            self._advance(0, losses(trainer))
        self._open.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._open.__exit__(type(exception), exception, exception.__traceback__)


def losses(trainer: Trainer) -> str:
    """Formats the last logged losses of a training: `forget -0.512  retain 0.020`."""
    found = {
        name.removeprefix("train/"): value
        for name, value in trainer.callback_metrics.items()
        if name.startswith("train/") and "weighted" not in name and "nll_" not in name
    }
    numbers = zip(found, on_host(found.values()), strict=True)
    return "  ".join(f"{name} {value:.3f}" for name, value in numbers)
