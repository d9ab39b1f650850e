"""A file that is made once, by one process, while others that want it wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(path: str | Path, make: Callable[[Path], None]) -> Path:
    """The file, made by `make(path to write)` if it is not there; of its name it is always whole.

    Jobs of a sweep and ranks of a run ask for the same tokens and states at the same moment. The
    lock goes with the process that holds it, however that ends.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            aside = path.with_suffix(f".{os.getpid()}.partial")
            try:
                make(aside)
                sync(aside)  # else a power cut may leave the name without what it stands for
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
    return path


def sync(path: Path) -> None:
    """A file, or all of a folder, down to the disk."""
    for part in [*path.rglob("*"), path]:
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
