"""Writes files and folders atomically, and makes files once under a lock."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock


@contextmanager
def atomic_write(path: str | Path, shared: bool = False) -> Iterator[Path]:
    """Context that writes a file or a folder aside, syncs it, and renames it at the end of the
    block.

    Of its name there is the old one, or none, or the whole new one, also after a power cut. If the
    block raises, what it wrote is removed.

    Args:
        path: of the file (an old one is replaced) or folder (there must be none).
        shared: several processes may write it at once. Else there is one name aside for all, so
            that what a killed process left is written over by the next.

    Yields:
        Where to write: a hidden name beside `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path, f".{os.getpid()}" if shared else "")
    _remove_folder(aside)
    try:
        yield aside
        sync(aside)  # else a power cut may leave the name without what it stands for
        aside.replace(path)
    except BaseException:
        _remove_folder(aside)
        aside.unlink(missing_ok=True)
        raise
    _sync_one(path.parent)  # else a power cut may undo the rename


def aside_of(path: Path, mark: str = "") -> Path:
    """Returns the path at which `atomic_write` has the file or folder written."""
    return path.with_name(f".{path.name}{mark}.partial")


def write_bytes(path: str | Path, content: bytes, shared: bool = False) -> None:
    """Writes a file atomically, see `atomic_write`."""
    with atomic_write(path, shared) as aside:
        aside.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8 atomically, its line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically.

    Raises:
        ValueError: a number is not finite, for which JSON has no word.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def made_once(path: str | Path, make: Callable[[Path], None]) -> Path:
    """Returns the file, made by `make(path to write)` if it is not there; under its name it is
    always whole.

    Jobs of a sweep and ranks of a run ask for the same tokens and states at the same moment. The
    lock goes with the process that holds it, however that ends.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            with atomic_write(path) as aside:
                make(aside)
    return path


def sync(path: Path) -> None:
    """Flushes a file, or all of a folder, to the disk."""
    for part in [*path.rglob("*"), path]:
        _sync_one(part)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
