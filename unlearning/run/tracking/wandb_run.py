"""One run of Weights & Biases: how it is started, and what its failures may not do."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import wandb
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)

INIT_SECONDS, FINISH_SECONDS = 10, 20


class RunOf(Protocol):
    """Gives a stage's run, or None; first sees to it that its server is there, where it must be."""

    def __call__(self, needs_server: bool = False) -> wandb.Run | None: ...


class RunLogger(WandbLogger):
    """Lightning's logger on a run of ours, whose failures end no training.

    Args:
        run: gives the run to log to; another one when the network is lost.
        settings: of `WandbLogger`.
    """

    def __init__(self, run: RunOf, **settings: Any) -> None:
        super().__init__(experiment=run(), **settings)
        self._run = run

    @property
    def experiment(self) -> wandb.Run | None:  # type: ignore[override]
        return self._run()

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Nothing: the run has the whole configuration, and theirs would lie on top of its keys."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with kept_going("logging"):
            if self._run() is not None:
                super().log_metrics(metrics, step)

    def log_table(self, *args: Any, **kwargs: Any) -> None:
        """Also of texts. The server is asked what it has by that name, so it has to be there."""
        self._run(True)
        with kept_going("a table"):
            super().log_table(*args, **kwargs)


def start_run(**arguments: Any) -> wandb.Run:
    """`wandb.init`, quiet and with limits on its waiting; steps are Lightning's."""
    settings = wandb.Settings(
        console="off",  # run.log has it
        silent=True,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
    )
    run = wandb.init(settings=settings, reinit="create_new", **arguments)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


@contextmanager
def kept_going(doing: str) -> Iterator[None]:
    """A tracker that fails is told of, and ends nothing: the run folder has it all."""
    try:
        yield
    except Exception as error:  # of many kinds: network, quota, files, W&B's own
        log.warning("W&B failed at %s; the run goes on: %s", doing, first_line(error))


@contextmanager
def environment(folder: Path) -> Iterator[None]:
    """What W&B takes from the environment only.

    Files that wait for an upload stay with the run. Without reports of errors to W&B itself a
    process whose network is gone ends at once, and not after twenty seconds.
    """
    wanted = {
        "WANDB_DATA_DIR": str(folder.resolve() / "wandb" / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    before = dict(os.environ)
    os.environ.update({name: value for name, value in wanted.items() if name not in before})
    try:
        yield
    finally:
        for name in wanted.keys() - before.keys():
            os.environ.pop(name, None)


def under_agent() -> bool:
    """Whether `wandb agent` started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
