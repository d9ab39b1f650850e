"""Logs a run to Weights & Biases, CSV, TensorBoard, or any other Lightning logger.

For those who ask; losses.csv, metrics.json and the report are written in any case.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import INTERRUPTED, PREEMPTED
from unlearning.imports import import_object
from unlearning.run.config.targets import build
from unlearning.run.tracking.config import is_wandb, logger_nodes
from unlearning.run.tracking.numbers import (
    TABLE_COLUMNS,
    answer_rows,
    core,
    scalars,
    summary,
    top_level,
)
from unlearning.types import Generation

if TYPE_CHECKING:
    from unlearning.run.tracking.wandb_run import WandbRun

MAIN = "unlearn"
SCORES = "scores"


class Tracking:
    """Passes what the stages log on to the configured loggers; none where there are none.

    W&B has one run for the whole run folder (group: the sweep or the run folder), in which the
    numbers of all stages but `unlearn` begin with the stage's name; of the other loggers each
    stage has a folder `<logger>/<stage>`. However the block is left, W&B's run is finished: with
    exit code 0 after a report, 1 after an exception, and 130 where there was neither: an
    interrupted run, which goes on in the same W&B run when it is resumed.

    Args:
        config: composed; its `logger` node says which.
        folder: the run folder.
        rank: of this process; rank 0 alone tracks.
    """

    def __init__(self, config: DictConfig, folder: str | Path, rank: int = 0) -> None:
        self.config, self.folder = config, Path(folder)
        self._nodes = logger_nodes(config) if rank == 0 else {}
        self._others = {name: node for name, node in self._nodes.items() if not is_wandb(node)}
        self._wandb: WandbRun | None = None
        self._scores: dict[str, Any] = {}
        self._exit_code = INTERRUPTED

    def __enter__(self) -> Self:
        self._wandb = _wandb_run(self.config, self._nodes, self.folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._wandb is not None:
            code = self._exit_code if error is None else _exit_code(error)
            self._wandb.finish(code, preempted=code == PREEMPTED)

    def loggers(self, stage: str) -> list[Logger]:
        """Returns the loggers for the Trainer of a stage."""
        found = [self._other(name, stage) for name in self._others]
        return found if self._wandb is None else [*found, self._wandb.logger(stage)]

    def evaluated(self, stage: str, metrics: Mapping[str, Any]) -> None:
        """Logs the scores of a stage, at any depth, as `<stage>.<name>...`; to W&B those alone
        that stand at the top."""
        self._tell(scalars({stage: metrics}), top_level(metrics, stage))

    def generations(self, before: Iterable[Generation], after: Iterable[Generation]) -> None:
        """Logs the answers before and after side by side."""
        if self._wandb is not None:
            self._wandb.table("generations", TABLE_COLUMNS, answer_rows(before, after))

    def report(self, path: Path, metrics: Mapping[str, Any]) -> None:
        """Ends the run: logs everything in `metrics.json`, to W&B as a file beside the report, with
        the core of it in the run's summary."""
        self._tell(summary(metrics), core(metrics))
        self._exit_code = 0
        if self._wandb is not None:
            files = [path, path.with_name("metrics.json")]
            self._wandb.artifact("report", [file for file in files if file.is_file()])
        for name in self._others:
            logger = self._other(name, SCORES)
            numbers = {k: v for k, v in self._scores.items() if not isinstance(v, str)}
            logger.log_metrics(numbers, step=metrics.get("steps"))
            logger.save()
            logger.finalize("success")

    def stopped(self, exit_code: int) -> None:
        """Ends a run that was stopped and can be resumed.

        Args:
            exit_code: what the process will end with; 143 (pre-empted) makes `wandb agent`'s
                server hand the work out again.
        """
        self._exit_code = exit_code

    def _tell(self, scores: Mapping[str, Any], short: Mapping[str, Any]) -> None:
        self._scores.update(scores)
        if self._wandb is not None:
            self._wandb.summary(short)

    def _other(self, name: str, stage: str) -> Logger:
        """Builds a logger other than W&B's, and fills in the paths that its configuration leaves
        open."""
        node = self._others[name]
        target = import_object(node["_target_"])
        version, number = stage, 1
        # Lightning's would empty the folder that a resumed stage has left.
        while issubclass(target, CSVLogger) and (self.folder / name / version).exists():
            number += 1
            version = f"{stage}-{number}"
        places = {"save_dir": str(self.folder), "name": name, "version": version}
        takes = inspect.signature(target.__init__).parameters
        logger: Logger = build(
            {**{k: v for k, v in places.items() if k in takes}, **node}, Logger, f"logger.{name}"
        )
        return logger


def _wandb_run(config: DictConfig, nodes: Mapping[str, Any], folder: Path) -> WandbRun | None:
    node = next((node for node in nodes.values() if is_wandb(node)), None)
    if node is None or os.environ.get("WANDB_MODE") == "disabled":
        return None
    from unlearning.run.tracking.wandb_run import WandbRun  # imports wandb: only where wanted

    sweep, job = (OmegaConf.select(config, f"sweep.{key}") for key in ("name", "job"))
    names = {
        "name": str(job or OmegaConf.select(config, "name") or "run"),
        "group": str(sweep or folder.resolve().name),
    }
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return WandbRun(node, plain, folder, names, MAIN)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code or 1
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
