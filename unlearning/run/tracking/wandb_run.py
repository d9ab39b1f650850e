"""One Weights & Biases run per run folder, with Lightning's logger for each of its stages."""

from __future__ import annotations

import json
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.run.output.console import console
from unlearning.run.tracking.config import OF_LOGGER

log = logging.getLogger(__name__)

ID = "wandb.json"
LONGEST_NAME = 128  # of a run or group
FINISH_SECONDS = 60  # for what is still to be uploaded when the run ends


class StageLogger(WandbLogger):
    """Lightning's logger of W&B for a run that belongs to several stages."""

    LOGGER_JOIN_CHAR = "/"  # between the stage and the name of a number

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Logs nothing: the run has the whole configuration, and theirs would overwrite its
        keys."""


class WandbRun:
    """The W&B run of a run folder; a resumed run continues it by the id in `wandb.json`.

    Args:
        settings: the node of the configuration: arguments of `wandb.init`, `offline`, `log_model`.
        config: everything that the run was composed of, plain.
        folder: the run folder.
        names: `name` and `group`, unless the settings have them.
        main: the stage whose numbers carry no stage's name.

    Raises:
        ConfigError: W&B cannot start a run: no server, a key that it does not know ...
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        config: Mapping[str, Any],
        folder: Path,
        names: Mapping[str, str],
        main: str,
    ) -> None:
        self.main, self._id = main, folder / ID
        offline = bool(settings.get("offline"))
        self._of_logger = {name: settings[name] for name in OF_LOGGER if name in settings}
        left_out = ("_target_", "offline", *OF_LOGGER)
        chosen = {k: v for k, v in settings.items() if k not in left_out and v is not None}
        if not os.environ.get("WANDB_SWEEP_ID"):  # of `wandb agent`, whose server names the runs
            chosen = {**{key: name[:LONGEST_NAME] for key, name in names.items()}, **chosen}
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Lightning's `offline` would set WANDB_MODE for the whole process.
            self.run: wandb.Run = WandbLogger(
                save_dir=folder, id=self._known_id(), config=dict(config),
                mode="offline" if offline else None, settings=_quiet(), **chosen,
            ).experiment  # fmt: skip
        except (wandb.Error, OSError) as error:
            raise ConfigError(
                f"W&B could not start a run: {_first_line(error)}. Mend that, or track offline "
                "(logger.wandb.offline=true) and upload later with `wandb sync`."
            ) from error
        write_json(self._id, {"id": self.run.id})
        where = self.run.url or f"offline; to upload it: wandb sync {self.run.settings.sync_dir}"
        console.print(f"      W&B: {where}", markup=False)

    def logger(self, stage: str) -> WandbLogger:
        """Returns the logger of a stage, whose name is the prefix of its metrics."""
        prefix = "" if stage == self.main else stage
        return StageLogger(experiment=self.run, prefix=prefix, **self._of_logger)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Sets values of the run's summary."""
        with _kept_going("its summary"):
            self.run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs rows of mixed types as a table."""
        with _kept_going("a table"):
            table = wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)
            self.run.log({name: table})

    def artifact(self, name: str, files: Sequence[Path]) -> None:
        """Logs files as an artifact."""
        with _kept_going("an artifact"):
            artifact = wandb.Artifact(f"{name}-{self.run.id}", type=name)
            for path in files:
                artifact.add_file(str(path))
            self.run.log_artifact(artifact)

    def finish(self, exit_code: int, preempted: bool) -> None:
        """Ends the run; a pre-empted one is handed out again by a sweep's server."""
        with _kept_going(f"the end (the rest: wandb sync {self.run.settings.sync_dir})"):
            if preempted:
                self.run.mark_preempting()
            self.run.finish(exit_code=exit_code)

    def _known_id(self) -> str | None:
        """Returns the run's id from before; version 0.4 had one id for each stage."""
        if not self._id.is_file():
            return None
        try:
            ids = json.loads(self._id.read_text(encoding="utf-8"))
            found: str | None = ids.get("id", ids.get(self.main))
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{self._id} should name the W&B run to go on with, and is damaged: {error}. "
                "Remove it, and a new W&B run is begun."
            ) from error
        return found


def _quiet() -> wandb.Settings:
    """Returns settings that print nothing (`run.log` has it), and limit the wait for a lost
    network."""
    return wandb.Settings(
        console="off", silent=True, finish_timeout=FINISH_SECONDS, finish_timeout_raises=True
    )


@contextmanager
def _kept_going(doing: str) -> Iterator[None]:
    """Logs a failure at the end of a run instead of raising it: the run folder has everything."""
    try:
        yield
    except Exception as error:  # of many kinds: network, quota, files, W&B's own
        log.warning("W&B failed at %s; the run goes on: %s", doing, _first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
