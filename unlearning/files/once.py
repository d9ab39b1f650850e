"""Makes a file or folder once for all processes, and verifies it before it is used again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from unlearning.errors import ConfigError
from unlearning.files.atomic import aside_of, atomic_write, remove, set_aside, write_text
from unlearning.files.locks import locked, take
from unlearning.files.sums import other_sum, problem_of_folder, sum_of_file

log = logging.getLogger(__name__)
SUM = ".sha256"


def made_once(path: str | Path, make: Callable[[Path], None]) -> Path:
    """Returns the file, made by `make(path to write)` if it is not there or is damaged; under its
    name it is always whole.

    Jobs of a sweep and ranks of a run ask for the same tokens and states at the same moment. The
    lock goes with the process that holds it, however that ends. Its SHA-256 lies beside the file,
    in `<name>.sha256`, and is compared whenever it is asked for.
    """
    path = Path(path).expanduser()
    if path.is_file() and problem(path) is None:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(path)):
        if not is_whole(path):
            with atomic_write(path) as aside:
                make(aside)
                write_text(_sum_beside(path), f"{sum_of_file(aside)}  {path.name}\n")
    return path


def is_whole(path: Path) -> bool:
    """Whether the file or folder is there with its checksums; a damaged one is set aside, with a
    line to the log. For the process that holds its lock.

    Raises:
        ConfigError: it is damaged, and cannot be renamed.
    """
    if not path.exists():
        return False
    found = problem(path)
    if found is None:
        return True
    try:
        aside = set_aside(path, "damaged")
    except OSError as error:
        raise ConfigError(
            f"The kept result {path} is damaged ({found}), and cannot be renamed: {error}. Remove "
            "it, or choose another cache_dir."
        ) from error
    log.warning("A kept result is damaged (%s) and is made again; it is now %s.", found, aside)
    return False


def problem(path: Path) -> str | None:
    """Explains how a kept file or folder differs from its checksums; None where it does not."""
    if path.is_dir():
        return problem_of_folder(path)
    if not _sum_beside(path).is_file():
        return f"its {_sum_beside(path).name} is missing"
    try:
        expected = _sum_beside(path).read_text(encoding="utf-8").split()[:1]
        found = sum_of_file(path)
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read with its checksum ({error})"
    return None if expected == [found] else other_sum(found, "".join(expected) or "nothing")


def lock_of(path: Path) -> Path:
    """Returns the lock of a kept file (and of its checksum) or folder."""
    return path.with_name(path.name.removesuffix(SUM)).with_suffix(".lock")


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes had begun to make in this folder: what has a lock beside it
    that nobody holds."""
    for aside in folder.glob(aside_of(folder / "*").name):
        lock = lock_of(folder / aside.name.removeprefix(".").removesuffix(".partial"))
        handle = take(lock, wait=False) if lock.is_file() else None
        if handle is not None:
            remove(aside)
            os.close(handle)


def _sum_beside(path: Path) -> Path:
    return path.with_name(path.name + SUM)
