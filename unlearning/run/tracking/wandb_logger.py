"""Weights & Biases: one run a stage, one at a time, and none that can end or hold up the work."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

from unlearning.run.output.console import console
from unlearning.run.output.results import write_json
from unlearning.run.tracking.config import OF_LOGGER
from unlearning.run.tracking.files import mend_parts
from unlearning.run.tracking.numbers import TABLE_COLUMNS
from unlearning.run.tracking.online import Connection
from unlearning.run.tracking.wandb_run import (
    RunLogger,
    environment,
    first_line,
    kept_going,
    start_run,
    under_agent,
)

log = logging.getLogger(__name__)

IDS = "wandb.json"
LONGEST_NAME = 128  # of a run or group


@dataclass(frozen=True)
class Place:
    """Where the runs belong.

    Args:
        folder: of our run; theirs lie in its `wandb/`, and their ids in its `wandb.json`.
        name: of the run, as W&B shows it.
        group: of the run, as W&B shows it.
        main: the stage that a sweep of W&B's is about.
    """

    folder: Path
    name: str
    group: str
    main: str


class WandbRuns:
    """The runs of one run folder.

    A resumed stage goes on in the run that it had. Under `wandb agent` the main stage is the run
    that the agent asked for, in its project, and the other stages have none.

    Args:
        settings: the node of the configuration: arguments of `wandb.init`, `offline`, `log_model`.
        config: everything that the run was composed of, plain.
    """

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any], place: Place):
        self.settings, self.config, self.place = dict(settings), config, place
        self.run: wandb.Run | None = None
        self.stage: str | None = None
        self.connection = Connection(bool(self.settings.get("offline")))
        self._told = self._off = False
        self._unsent: list[str] = []  # online, but not to the end

    def surroundings(self) -> AbstractContextManager[None]:
        """To be entered while there are runs, see `environment`."""
        return environment(self.place.folder)

    def open(self, stage: str) -> wandb.Run | None:
        """The run of a stage, the one before being finished; None where there can be none."""
        if self.run is not None and self.stage == stage:
            return self.run
        self.finish(0)
        if self._off or (under_agent() and stage != self.place.main):
            return None
        try:
            self.run = self._open(stage)
        except Exception as error:  # of many kinds; whatever it is, work goes on without W&B
            self._off = True
            log.warning("W&B could not be started, and tracks nothing: %s", first_line(error))
            return None
        self.stage = stage
        self._tell()
        return self.run

    def logger(self, stage: str) -> RunLogger | None:
        """For a Trainer."""
        if self.open(stage) is None:
            return None

        def run(needs_server: bool = False) -> wandb.Run | None:
            if needs_server and self.stage == stage:
                self._see_to_server()
            return self.open(stage)

        names = ("project", *OF_LOGGER)
        chosen = {name: self.settings[name] for name in names if name in self.settings}
        # Checkpoints that nobody takes would only pile up.
        models = self.connection.offline is None and self.settings.get("log_model", False)
        return RunLogger(run, log_model=models, **chosen)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values of the open run, shown beside its name."""
        if self.run is not None and values:
            with kept_going("its summary"):
                self.run.summary.update(dict(values))

    def table(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Answers as a table of the open run; W&B shows so many rows and no more."""
        self._see_to_server()
        if self.run is None:
            return
        shown = list(rows[: wandb.Table.MAX_ROWS])
        if len(shown) < len(rows):
            log.info("W&B shows the first %d of %d answers.", len(shown), len(rows))
        with kept_going("a table"):
            table = wandb.Table(columns=list(TABLE_COLUMNS), data=shown, allow_mixed_types=True)
            self.run.log({name: table})

    def artifact(self, name: str, files: Sequence[Path]) -> None:
        """Files, as an artifact of the open run."""
        self._see_to_server()
        if self.run is None:
            return
        with kept_going("an artifact"):
            artifact = wandb.Artifact(f"{name}-{self.run.id}", type=name)
            for path in files:
                artifact.add_file(str(path))
            self.run.log_artifact(artifact)

    def finish(self, exit_code: int, preempted: bool = False) -> None:
        """End the open run, if there is one, whatever happened in it."""
        run, self.run, self.stage = self.run, None, None
        if run is None:
            return
        try:
            if preempted:
                run.mark_preempting()
            run.finish(exit_code=exit_code)
        except Exception as error:  # see `open`
            self._unsent.append(str(Path(run.dir).parent))
            log.warning(
                "W&B did not get everything (%s). To send the rest: wandb sync --include-online %s",
                first_line(error), self._unsent[-1],
            )  # fmt: skip

    def _see_to_server(self) -> None:
        """Go on offline, in another part of the same run, where the network is gone.

        Online, tables and artifacts first ask the server; without it they wait, and are lost.
        """
        if self.run is not None and self.connection.is_lost():
            stage, self._told = self.stage, False
            self.finish(0)
            assert stage is not None
            self.open(stage)

    def _open(self, stage: str) -> wandb.Run:
        arguments = self._arguments(stage)
        mend_parts(self.place.folder / "wandb", arguments["id"])
        if self.connection.ask() is None:
            try:
                return start_run(mode="online", **arguments)
            except wandb.Error as error:
                self.connection.offline = first_line(error)
        return start_run(mode="offline", **arguments)

    def _arguments(self, stage: str) -> dict[str, Any]:
        """For `wandb.init`."""
        place = self.place
        left_out = {"_target_", "offline", "log_model", *OF_LOGGER}
        chosen = {k: v for k, v in self.settings.items() if k not in left_out and v is not None}
        names = {"name": place.name[:LONGEST_NAME], "group": place.group[:LONGEST_NAME]}
        if under_agent():  # the server named it, and knows where it belongs
            names, chosen = {}, {k: v for k, v in chosen.items() if k not in ("project", "entity")}
        # Pre-empted or killed, a run comes back: what it had is gone on with, not thrown away.
        return {
            **names, **chosen, "id": self._id(stage), "resume": "allow", "job_type": stage,
            "dir": str(place.folder), "config": dict(self.config),
        }  # fmt: skip

    def _id(self, stage: str) -> str:
        """What the stage's run was called before, or shall be called from now on."""
        path = self.place.folder / IDS
        ids = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if stage not in ids:
            ids[stage] = (under_agent() and os.environ.get("WANDB_RUN_ID")) or uuid.uuid4().hex[:8]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, ids)
        return str(ids[stage])

    def _tell(self) -> None:
        """Where to look; why and what to do, the first time, where it is offline."""
        assert self.run is not None
        offline = self.connection.offline
        if offline is None:
            console.print(f"      W&B: {self.run.url}", markup=False)
        elif not self._told:
            self._told = True
            paths = ["--include-online", *self._unsent] if self._unsent else []
            paths.append(str(self.place.folder / "wandb" / "offline-run-*"))
            log.log(
                logging.INFO if self.connection.chosen else logging.WARNING,
                "W&B: %s. It goes on offline; to upload the runs later: wandb sync %s",
                offline, " ".join(paths),
            )  # fmt: skip
