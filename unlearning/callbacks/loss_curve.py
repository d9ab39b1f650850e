"""Writes the loss terms of every step to a CSV file."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from unlearning.callbacks.step import StepCallback
from unlearning.callbacks.step_metrics import StepMetrics, on_host
from unlearning.errors import ConfigError
from unlearning.files.atomic import atomic_write, sync

log = logging.getLogger(__name__)

FIRST = ["step", "learning_rate"]


class LossCurve(StepCallback):
    """Writes `step`, `learning_rate` and each logged `train/<name>` as `<name>` to a CSV file.

    Step n is the n-th update: the losses that led to it, and the learning rate it was made with.
    With gradient accumulation a loss is the mean over the step's batches. Rows are kept on their
    device and written every `flush_every` rows, at every checkpoint and at the end, also after an
    error. A resumed run continues the file, without the rows beyond the step it resumes from; a new
    run replaces a loss curve that is there. A missing value is an empty cell.

    Args:
        path: the file; its folder is made.
        every_n_steps: steps between rows.
        flush_every: rows that are written at once.

    Raises:
        ConfigError: before the first step, if there is a file that is no loss curve.
    """

    def __init__(self, path: str | Path, every_n_steps: int = 1, flush_every: int = 50) -> None:
        super().__init__(every_n_steps)
        self.path, self.flush_every = Path(path), flush_every
        self._metrics = StepMetrics()
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []
        self._rate: float | Tensor = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._metrics, self._rows, self._columns = StepMetrics(), [], list(FIRST)
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = []
            if self.path.exists():
                columns, rows = read_rows(self.path)  # of a new run, too: is it a loss curve?
                if trainer.global_step:
                    self._columns = columns
                    kept = [row for row in rows if int(row["step"]) <= trainer.global_step]
            self._rewrite(kept)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        # Here, because the schedule has moved on when the step ends.
        self._rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and self._is_recorded(trainer):
            logged = trainer.callback_metrics.items()
            self._metrics.add({n[6:]: v for n, v in logged if n.startswith("train/")})
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _is_recorded(self, trainer: Trainer) -> bool:
        """Whether the step of this batch gets a row."""
        stepped = trainer.global_step > self._steps_seen
        return (trainer.global_step + (not stepped)) % self.every_n_steps == 0

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        if trainer.is_global_zero:
            self._rows.append({"step": step, "learning_rate": self._rate, **self._metrics.pop()})
            if len(self._rows) >= self.flush_every:
                self._write()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._write()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        try:
            self._write()
        except (OSError, RuntimeError) as error:
            # A full disk, a broken GPU: what the user is to hear of is the first error.
            log.warning("The last rows of %s could not be written: %s", self.path, error)

    def _write(self) -> None:
        if not self._rows:
            return
        numbers = iter(on_host(value for row in self._rows for value in row.values()))
        rows = [{name: _cell(next(numbers)) for name in row} for row in self._rows]
        self._rows = []
        new = dict.fromkeys(name for row in rows for name in row if name not in self._columns)
        if new:
            earlier = read_rows(self.path)[1]
            self._columns = [*self._columns, *new]
            self._rewrite([*earlier, *rows])
        else:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerows(rows)
            # A checkpoint that outlives a power cut must not know more than the file.
            sync(self.path)

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        with (
            atomic_write(self.path) as aside,
            aside.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Reads columns and rows of a loss table, without a last line that a crash cut short.

    Raises:
        ConfigError: the file is no loss table.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values()]
        columns = list(reader.fieldnames or [])
    if columns[:2] != FIRST:
        raise ConfigError(
            f"{path} has the columns {columns} and was not written by LossCurve, which begins with "
            f"{FIRST}. Move it away or give another path."
        )
    return columns, rows


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
