"""Writes files and folders atomically; renames what is in the way, clears what was left."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LEFTOVER = re.compile(r"\..+?(?:\.(\d+))?\.partial|\..+\.(\d+)\.tmp")


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
    if aside.is_dir() and not aside.is_symlink():
        remove(aside)
    try:
        yield aside
        sync(aside)  # else a power cut may leave the name without what it stands for
        aside.replace(path)
    except BaseException:
        remove(aside)
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


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if there is one; of a link the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, mark: str) -> Path:
    """Renames a file or folder to `<name>.<mark>-<n>`, with the first n that is free.

    Returns:
        Its new path.
    """
    names = (path.with_name(f"{path.name}.{mark}-{n}") for n in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))
    return path.rename(free)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes had begun to write aside in this folder.

    For the one process that writes there; what other living processes write under their own
    number is left. A `.<name>.<number>.tmp` is what version 0.4 wrote.
    """
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found is None or any(_lives(int(number)) for number in found.groups() if number):
            continue
        remove(path)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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
