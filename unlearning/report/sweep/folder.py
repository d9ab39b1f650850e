"""Reads a sweep folder: its record, where there is one, and its jobs' folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.files.parsing import parse_json, parse_yaml, read_json
from unlearning.names_0_4 import current_config, current_metrics
from unlearning.report.ending import REVERTED, is_reverted
from unlearning.report.figures import number, section
from unlearning.report.sweep.words import parse

RECORD = "sweep.json"
_HYDRA_RECORD = "multirun.yaml"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Args:
        name: of its folder inside the sweep's.
        overrides: the words that it was started with; empty where nobody wrote them down.
        status: pending, running, finished, reverted, failed or interrupted; unknown for a job
            without a record that has no metrics.
        seconds: how long it took, as recorded, or else the sum of its stages.
        metrics: `metrics.json`; empty where the job did not get that far, and of a reverted one,
            whose figures are those of the model that it began with.
        written: `metrics.json` of any job.
        problem: why one of its files could not be read, or "".
        files: the names of the files that the page may link to.
        folder: of the run.
    """

    name: str
    overrides: tuple[str, ...] = ()
    status: str = "unknown"
    exit_code: int | None = None
    seconds: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    objectives: tuple[float | None, ...] = ()
    problem: str = ""
    files: frozenset[str] = frozenset()
    folder: Path = Path()


@dataclass(frozen=True)
class SweepFolder:
    """A sweep: its folder, the overrides it was started with, and its jobs in their order."""

    path: Path
    words: tuple[str, ...]
    jobs: tuple[Job, ...]
    recorded: bool


def is_sweep_folder(folder: Path) -> bool:
    """Whether a folder holds runs, rather than being one."""
    folder = Path(folder)
    if (folder / RECORD).is_file():
        return True
    is_run = any((folder / name).is_file() for name in ("metrics.json", "config.yaml"))
    return not is_run and bool(_job_folders(folder))


def read_sweep_folder(folder: Path) -> SweepFolder:
    """Reads a sweep folder; an unreadable file of one job is reported with that job alone.

    Raises:
        ConfigError: there is no job in the folder, or the record itself cannot be read.
    """
    record = _record(folder / RECORD)
    recorded = section(record, "jobs")
    names = list(recorded) or [job.name for job in _job_folders(folder)]
    if not names:
        raise ConfigError(
            f"{folder} holds no job of a sweep: neither {RECORD} nor a folder with a config.yaml "
            "or a metrics.json. Give the folder that `unlearn -m` wrote to."
        )
    jobs = [_job(folder / name, section(recorded, name)) for name in sorted(names, key=_order)]
    words = record.get("overrides") or _hydra_words(folder / _HYDRA_RECORD)
    return SweepFolder(folder, tuple(map(str, words)), tuple(jobs), bool(recorded))


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid JSON ({error}). Remove it, and the report goes by the jobs' "
            "own folders."
        ) from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path} holds a {type(record).__name__}; expected a mapping.")
    return record


def _job_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    telling = ("metrics.json", "config.yaml")
    return [sub for sub in folder.iterdir() if any((sub / name).is_file() for name in telling)]


def _order(name: str) -> tuple[bool, int, str]:
    """Sorts by number; what is not a number comes last."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _job(path: Path, record: Mapping[str, Any]) -> Job:
    problems: list[str] = []
    metrics = current_metrics(_mapping(path / "metrics.json", problems))
    stages = [number(raw) for raw in section(metrics, "seconds").values()]
    seconds = number(record.get("seconds"))
    if seconds is None and stages:
        seconds = sum(value for value in stages if value is not None)
    # A launcher that was killed may not have written down how its last jobs ended.
    status = "finished" if metrics else str(record.get("status") or "unknown")
    status = REVERTED if is_reverted(metrics) else status
    code, objectives = number(record.get("exit_code")), record.get("objectives")
    return Job(
        name=path.name,
        folder=path,
        overrides=tuple(map(str, record.get("overrides") or ())),
        status=status,
        exit_code=None if code is None else int(code),
        seconds=seconds,
        metrics={} if status == REVERTED else metrics,
        written=metrics,
        config=current_config(_mapping(path / "config.yaml", problems)),
        objectives=tuple(map(number, objectives)) if isinstance(objectives, list) else (),
        problem=" ".join(problems),
        files=frozenset(
            name for name in ("report.html", "job.log", "run.log") if (path / name).is_file()
        ),
    )


def _mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        found = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except (ValueError, OSError) as error:
        found, why = None, " ".join(str(error).split())
    else:
        why = f"it holds a {type(found).__name__} instead of a mapping"
    if isinstance(found, dict):
        return found
    problems.append(f"{path.name} could not be read: {why}.")
    return {}


def _hydra_words(path: Path) -> list[str]:
    """Returns the overrides that were typed, as Hydra's own sweeper stores them."""
    typed = section(section(_mapping(path, []), "hydra"), "overrides").get("task")
    words = typed if isinstance(typed, list) else []
    return [str(word) for word in words if parse(str(word))]
