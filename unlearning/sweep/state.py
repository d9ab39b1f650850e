"""The state of a sweep folder: `sweep.json`, rewritten whenever a job changes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.files.locks import take
from unlearning.files.made import RECORD as RECORD_OF_MADE
from unlearning.files.parsing import read_json
from unlearning.report.compare.study import RECORD as RECORD_OF_COMPARISON
from unlearning.report.ending import REVERTED
from unlearning.run.output.run_folder import foreign
from unlearning.version import __version__

FILE, LOCK = "sweep.json", "sweep.lock"
RECORD_OF_HYDRA = "multirun.yaml"
LOG = "job.log"  # of a job, in its folder: all that it said
PENDING, RUNNING, FINISHED = "pending", "running", "finished"
FAILED, INTERRUPTED = "failed", "interrupted"
DONE = (FINISHED, REVERTED)  # the same again if it were run again


@dataclass
class Job:
    """One run of a sweep."""

    overrides: list[str]
    status: str = PENDING
    exit_code: int | None = None
    seconds: float | None = None  # of all its starts
    objectives: list[float] | None = None


class Sweep:
    """The jobs of one folder, by number; job n's run folder is `<folder>/<n>`.

    Args:
        folder: of the sweep.
        overrides: what was typed after `unlearn -m`.
        jobs: by number.
        version: of the package that began the sweep.
    """

    def __init__(
        self, folder: Path, overrides: Sequence[str], jobs: dict[int, Job] | None = None,
        version: str = __version__,
    ) -> None:  # fmt: skip
        self.folder, self.overrides, self.version = folder, list(overrides), version
        self.jobs = jobs or {}

    @classmethod
    def load(cls, folder: Path) -> Sweep:
        """Loads the sweep of a folder.

        Raises:
            ConfigError: the folder holds none.
        """
        path = folder / FILE
        if not path.is_file():
            hint = f" It is a run: unlearn resume={shlex.quote(str(folder))}"
            is_run = (folder / "config.yaml").is_file()
            raise ConfigError(
                f"{folder} is no sweep folder: it has no {FILE}.{hint if is_run else ''}"
            )
        try:
            found = read_json(path)
            jobs = {int(number): Job(**job) for number, job in found["jobs"].items()}
            return cls(folder, found["overrides"], jobs, found["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error!r}. Was it edited?") from error

    def save(self) -> None:
        """Writes `sweep.json` atomically."""
        content = {
            "version": self.version,
            "overrides": self.overrides,
            "jobs": {str(number): asdict(job) for number, job in sorted(self.jobs.items())},
        }
        write_json(self.folder / FILE, content)

    def path(self, number: int) -> Path:
        """Returns the run folder of a job."""
        return self.folder / str(number)

    def log(self, number: int) -> Path:
        """Returns the file with a job's output; for a job that printed to the terminal, its
        run's log."""
        files = (self.path(number) / name for name in (LOG, "run.log"))
        return next((file for file in files if file.is_file()), self.path(number))

    def has_finished(self, number: int) -> bool:
        """Whether the job left its results, however it ended."""
        return (self.path(number) / "metrics.json").is_file()

    def number_of(self, overrides: Sequence[str], first: int) -> int:
        """Returns the number of the job with these overrides, an existing or a new one.

        Args:
            first: the number that a new one should have; the next free one where it is taken.
        """
        wanted = sorted(overrides)
        for number, job in self.jobs.items():
            if sorted(job.overrides) == wanted:
                return number
        number = first
        while number in self.jobs or _holds_something(self.path(number)):
            number += 1
        self.jobs[number] = Job(list(overrides))
        return number

    def update(self, number: int, **changes: object) -> None:
        """Changes a job, and saves."""
        for name, value in changes.items():
            setattr(self.jobs[number], name, value)
        self.save()

    def unfinished(self) -> list[int]:
        """Returns the jobs that have not come to their end."""
        return [number for number, job in sorted(self.jobs.items()) if job.status not in DONE]


def is_sweep(folder: Path) -> bool:
    """Whether our launcher has written to this folder."""
    return (folder / FILE).is_file()


def check_new(folder: Path, ours: bool) -> None:
    """Checks that a new sweep, which has claimed the folder, has it for its own.

    Args:
        ours: our launcher runs it. Others may go on in the folder of an earlier start; the runs
            look at their own folders.

    Raises:
        ConfigError: it holds a sweep, or what is no part of one.
    """
    if (folder / FILE).exists():
        raise ConfigError(
            f"{folder} holds a sweep. Go on with it: unlearn -m sweep.resume="
            f"{shlex.quote(str(folder))}; or choose another folder with hydra.sweep.dir=<folder>."
        )
    found = foreign(folder, (LOCK,))
    if not ours:  # Hydra writes this alone; all else may be of an earlier start
        found = [name for name in found if name == RECORD_OF_HYDRA and not _is_of_hydra(folder)]
    if found:
        (folder / LOCK).unlink(missing_ok=True)  # made by this call
        raise ConfigError(
            f"{folder} holds what this sweep has not made: {', '.join(found[:4])}"
            f"{', ...' if found[4:] else ''}. A sweep needs a folder of its own, for its numbered "
            "runs and its report. Choose a new or an empty one with hydra.sweep.dir=<folder>."
        )


def forget_empty(folder: Path) -> None:
    """Removes a sweep that never had a job, so that the next attempt finds the folder as it was."""
    if Sweep.load(folder).jobs:
        return
    # The last three are of a search or a comparison.
    for name in (FILE, LOCK, RECORD_OF_HYDRA, "study.db", RECORD_OF_COMPARISON, RECORD_OF_MADE):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _is_of_hydra(folder: Path) -> bool:
    return (folder / RECORD_OF_HYDRA).read_bytes().startswith(b"hydra:\n")


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Context in which this process alone owns the folder.

    Raises:
        ConfigError: another sweep runs in it.
    """
    handle = take(folder / LOCK, wait=False)
    if handle is None:
        raise ConfigError(
            f"Another sweep runs in {folder}. Wait for it, or choose another folder with "
            "hydra.sweep.dir=<folder>."
        )
    try:
        yield
    finally:
        os.close(handle)
