"""Trackers of a run: Weights & Biases, CSV, TensorBoard, or any other logger of Lightning's.

For those who ask; losses.csv, metrics.json and the report are written in any case.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import INTERRUPTED, PREEMPTED
from unlearning.imports import import_object
from unlearning.run.config.build import build
from unlearning.run.tracking.config import is_wandb, logger_nodes
from unlearning.run.tracking.numbers import answer_rows, scalars, summary
from unlearning.types import Generation

MAIN = "unlearn"
SCORES = "scores"


class Tracking:
    """What the stages tell the configured loggers; nothing where there are none.

    Each training has a run of its own at W&B (group: the sweep or the run folder; job type: the
    stage), and folders `<logger>/<stage>` of the others. Scores and answers go to the run of the
    stage that unlearns. However the block is left, W&B's run is finished: with exit code 0 after
    a report, 1 after an exception, and 130 where there was neither: an interrupted run, which
    goes on in the same W&B run when it is resumed.

    Args:
        config: composed; its `logger` node says which.
        folder: the run folder.
        rank: of this process; rank 0 alone tracks.
    """

    def __init__(self, config: DictConfig, folder: str | Path, rank: int = 0) -> None:
        self.folder = Path(folder)
        nodes = logger_nodes(config) if rank == 0 else {}
        self._others = {name: node for name, node in nodes.items() if not is_wandb(node)}
        self._runs = _wandb_runs(config, nodes, self.folder)
        self._scores: dict[str, Any] = {}
        self._exit_code = INTERRUPTED
        self._surroundings = ExitStack()

    def __enter__(self) -> Self:
        if self._runs is not None:
            self._surroundings.enter_context(self._runs.surroundings())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runs is None:
            return
        code = self._exit_code if error is None else _exit_code(error)
        with self._surroundings:
            self._runs.finish(code, preempted=code == PREEMPTED)

    def loggers(self, stage: str) -> list[Logger]:
        """For the Trainer of a stage; W&B's run of the stage before ends here."""
        found = [self._other(name, stage) for name in self._others]
        ours = self._runs.logger(stage) if self._runs is not None else None
        if ours is not None:
            found.append(ours)
            self._tell_scores()
        return found

    def evaluated(self, stage: str, metrics: Mapping[str, Any]) -> None:
        """Scores of a stage, at any depth; shown as `<stage>.<name>...`."""
        found = scalars({stage: metrics})
        self._scores.update(found)
        if self._runs is not None and self._runs.stage == stage:
            self._runs.summary(found)
        self._tell_scores()

    def generations(self, before: Iterable[Generation], after: Iterable[Generation]) -> None:
        """What the model said before and says after, side by side."""
        if self._runs is not None and self._main():
            self._runs.table("generations", answer_rows(before, after))

    def report(self, path: Path, metrics: Mapping[str, Any]) -> None:
        """The end of a run: everything in `metrics.json`, and the report with it as files."""
        self._scores.update(summary(metrics))
        self._exit_code = 0
        if self._runs is not None and self._main():
            files = [path, path.with_name("metrics.json")]
            self._runs.artifact("report", [file for file in files if file.is_file()])
        for name in self._others:
            logger = self._other(name, SCORES)
            numbers = {k: v for k, v in self._scores.items() if not isinstance(v, str)}
            logger.log_metrics(numbers, step=metrics.get("steps"))
            logger.save()
            logger.finalize("success")

    def stopped(self, exit_code: int) -> None:
        """The run was stopped and can be resumed.

        Args:
            exit_code: what the process will end with; 143 (pre-empted) makes `wandb agent`'s
                server hand the work out again.
        """
        self._exit_code = exit_code

    def _main(self) -> bool:
        """Open the run of the stage that unlearns, also where that was done before a resume."""
        assert self._runs is not None
        if self._runs.open(MAIN) is None:
            return False
        self._tell_scores()
        return True

    def _tell_scores(self) -> None:
        if self._runs is not None and self._runs.stage == MAIN:
            self._runs.summary(self._scores)

    def _other(self, name: str, stage: str) -> Logger:
        """A logger that is not W&B's, with the places that its configuration leaves open."""
        node = self._others[name]
        target = import_object(node["_target_"])
        version, number = stage, 1
        # Lightning's would empty the folder that a resumed stage has left.
        while issubclass(target, CSVLogger) and (self.folder / name / version).exists():
            number += 1
            version = f"{stage}-{number}"
        places = {"save_dir": str(self.folder), "name": name, "version": version}
        takes = inspect.signature(target.__init__).parameters
        logger: Logger = build({**{k: v for k, v in places.items() if k in takes}, **node})
        return logger


def _wandb_runs(config: DictConfig, nodes: Mapping[str, Any], folder: Path) -> Any:
    """W&B's part, which is imported where it is wanted only."""
    node = next((node for node in nodes.values() if is_wandb(node)), None)
    if node is None or os.environ.get("WANDB_MODE") == "disabled":
        return None
    from unlearning.run.tracking.wandb_logger import Place, WandbRuns

    sweep, job = (OmegaConf.select(config, f"sweep.{key}") for key in ("name", "job"))
    place = Place(
        folder, str(job or OmegaConf.select(config, "name") or "run"),
        str(sweep or folder.resolve().name), MAIN,
    )  # fmt: skip
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return WandbRuns(node, plain, place)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code or 1
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
