"""Locks between processes. The system releases a lock when its holders end, however they end."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlearning.progress import working

log = logging.getLogger(__name__)


def take(path: Path, wait: bool = True) -> int | None:
    """Locks a file, which is made if it is not there.

    On a disk that knows no locks it warns, and returns as if it had one.

    Args:
        wait: for another holder; else there is none then.

    Returns:
        A descriptor that holds the lock until it is closed, or None. A process that inherits it
        (`subprocess.Popen(..., pass_fds=[descriptor])`) holds the lock, too, as long as it lives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError as error:
            log.warning("%s cannot be locked (%s); see that no second run uses it.", path, error)
            return handle
        except BaseException:  # Ctrl-C while it waits
            os.close(handle)
            raise
        if _is_still(path, handle):
            return handle
        os.close(handle)  # its owner removed it before we had the lock; there may be a new one


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context that waits for the lock of a file, and holds it."""
    handle = take(path, wait=False)
    if handle is None:
        with working(f"waiting for another run, which holds {path}"):
            handle = take(path)
    assert handle is not None
    try:
        yield
    finally:
        with suppress(OSError):  # a disk that knows no locks
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for a fork that lives on, a worker say
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
