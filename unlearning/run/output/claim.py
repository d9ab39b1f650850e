"""The lock of a run folder: one run at a time works in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlearning.errors import ConfigError
from unlearning.files.locks import take

CLAIM = ".run.lock"


@contextmanager
def claim(folder: Path) -> Iterator[int]:
    """Locks a folder for this process; the system releases it however the process ends.

    Yields:
        A file handle. A process that inherits it (`subprocess.Popen(..., pass_fds=[handle])`) holds
        the folder, too, as long as it lives.

    Raises:
        ConfigError: another run holds it, with its process; or it cannot be made or written.
    """
    path = folder / CLAIM
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = take(path, wait=False)
    except OSError as error:
        raise ConfigError(
            f"The run folder {folder} cannot be written: {error}. Choose another one with "
            "hydra.run.dir=<folder>."
        ) from error
    if handle is None:
        holder = _text(path).strip()
        raise ConfigError(
            f"Another run works in {folder} (process {holder or 'unknown'}). Wait for it, end it, "
            "or choose another folder with hydra.run.dir=<folder>."
        )
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield handle
    finally:
        path.unlink(missing_ok=True)  # while it is ours still
        os.close(handle)


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:200].decode(errors="replace")
    except FileNotFoundError:  # it has just ended
        return ""


def remove_if_empty(folder: Path) -> None:
    """Removes the folder of a run that left nothing; other ranks may do the same concurrently."""
    with suppress(OSError):  # it is not empty, or gone
        folder.rmdir()
