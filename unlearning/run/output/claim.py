"""The lock of a run folder: one run at a time works in it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlearning.errors import ConfigError

log = logging.getLogger(__name__)

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
        handle = _locked(path)
    except OSError as error:
        raise ConfigError(
            f"The run folder {folder} cannot be written: {error}. Choose another one with "
            "hydra.run.dir=<folder>."
        ) from error
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


def remove_if_empty(folder: Path) -> None:
    """Removes the folder of a run that left nothing; other ranks may do the same concurrently."""
    with suppress(OSError):  # it is not empty, or gone
        folder.rmdir()
