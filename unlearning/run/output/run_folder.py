"""The run folder: locks it, and checks whether it belongs to this run and can be resumed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.files import write_json, write_text
from unlearning.names_0_4 import current_config
from unlearning.nested import leaves

log = logging.getLogger(__name__)

CLAIM, CONFIG, FINGERPRINTS = ".run.lock", "config.yaml", "fingerprints.json"
METRICS, REPORT = "metrics.json", "report.html"
UNLEARNED, SECONDS = "unlearned.json", "seconds.json"
NOT_COMPARED = ("validate", "sweep")  # they change nothing of what a run computes


def check_folder(folder: Path, resume: bool = False) -> None:
    """Raises a ConfigError for a folder with a finished run, or another run's results.

    A run that was killed between its metrics and its report may be resumed for the latter.

    Raises:
        ConfigError: it does.
    """
    if (folder / METRICS).exists() and not (resume and not (folder / REPORT).exists()):
        raise ConfigError(
            f"{folder} holds a finished run, which is never overwritten. "
            "Choose another folder with hydra.run.dir=<folder>, or move it away."
        )
    if (folder / "model").exists() and not (folder / CONFIG).exists():
        raise ConfigError(
            f"{folder} holds a model and no run, and the run would put its own in its place. "
            "Choose another folder with hydra.run.dir=<folder>."
        )
    begun = (folder / UNLEARNED).exists() or any((folder / "checkpoints").glob("*.ckpt"))
    if begun and not resume:
        raise ConfigError(
            f"{folder} holds a run that was interrupted. Go on with it (unlearn resume={folder}), "
            "choose another folder, or move it away."
        )


@contextmanager
def claim(folder: Path) -> Iterator[int]:
    """Locks a folder for this process; the system releases it however the process ends.

    Yields:
        A file handle. A process that inherits it (`subprocess.Popen(..., pass_fds=[handle])`) holds
        the folder, too, as long as it lives.

    Raises:
        ConfigError: another run holds it; says which process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CLAIM
    handle = _locked(path)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield handle
    finally:
        path.unlink(missing_ok=True)  # while it is ours still
        os.close(handle)


def _locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
            raise ConfigError(
                f"Another run works in {path.parent} (process {holder or 'unknown'}). Wait for it, "
                "end it, or choose another folder with hydra.run.dir=<folder>."
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s); see that no second run uses it.", path, error)
            return handle
        if _is_still(path, handle):
            return handle
        os.close(handle)  # its owner removed it before we had the lock; there may be a new one


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def forget_earlier_run(folder: Path) -> None:
    """Removes what a run that ended without a result has recorded of its data and times."""
    for name in (FINGERPRINTS, SECONDS):
        (folder / name).unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    """Removes the folder of a run that left nothing; other ranks may do the same concurrently."""
    with suppress(OSError):  # it is not empty, or gone
        folder.rmdir()


def save_config(config: DictConfig, folder: Path) -> None:
    """Writes `config.yaml` atomically, since a resume reads it."""
    write_text(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))


def load_config(folder: Path) -> DictConfig:
    """Loads the run's configuration, with the keys of version 0.4 translated.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} is no run folder: it has no {CONFIG}.")
    return OmegaConf.create(current_config(OmegaConf.to_container(OmegaConf.load(path))))  # type: ignore[arg-type]


class Difference(NamedTuple):
    """A dotted key with its two values; `absent` where one side lacks it."""

    key: str
    saved: Any
    given: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.saved!r} in the run, {self.given!r} now"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def config_differences(saved: DictConfig, given: DictConfig) -> list[Difference]:
    """Compares two complete configurations, and returns the keys that differ.

    Args:
        saved: the run's, which has its debug limits applied.
        given: likewise; see `unlearning.run.config.debug.limited`.
    """
    first, second = (
        dict(leaves(OmegaConf.to_container(config, resolve=True))) for config in (saved, given)
    )
    found = []
    for key in sorted(first.keys() | second.keys()):
        ours, theirs = first.get(key, ABSENT), second.get(key, ABSENT)
        same = ours == theirs or (ours != ours and theirs != theirs)  # NaN
        if not same and key.split(".")[0] not in NOT_COMPARED:
            found.append(Difference(key, ours, theirs))
    return found


def check_config(folder: Path, given: DictConfig) -> None:
    """Checks that a run folder was made with this configuration.

    Raises:
        ConfigError: it was not; names the keys, or the folder holds no run.
    """
    saved = load_config(folder)
    if found := config_differences(saved, given):
        lines = "".join(f"\n  {difference}" for difference in found)
        raise ConfigError(
            f"{folder} was made with another configuration:{lines}\nTo go on with it as it is, "
            f"give unlearn resume={folder} alone; for other settings start a run of its own."
        )


def check_data_unchanged(folder: Path, fingerprints: Mapping[str, str]) -> None:
    """Records the fingerprints of the data sets when a run starts, and compares them on resume.

    Args:
        fingerprints: by the data set's name.

    Raises:
        ConfigError: a data set is no longer what it was; names it.
    """
    path = folder / FINGERPRINTS
    found = dict(fingerprints)
    if not path.is_file():
        write_json(path, found)
        return
    earlier: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    changed = [n for n in sorted(earlier.keys() | found.keys()) if earlier.get(n) != found.get(n)]
    if changed:
        named = ", ".join(
            f"data.{name} ({_short(earlier.get(name))} then, {_short(found.get(name))} now)"
            for name in changed
        )
        raise ConfigError(
            f"{folder} was started with other data: {named}. Put back the records it began with, "
            "or start a run of its own; half a run on each would be a result of neither."
        )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else f"{fingerprint[:12]}..."
