"""One holder at a time, however the others came to the file."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from unlearning.files.locks import locked, take


def test_one_holds_it_and_the_next_waits(tmp_path):
    path, order = tmp_path / "new/x.lock", []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with locked(path):
            order.append("second")

    with locked(path):
        assert take(path, wait=False) is None
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    handle = take(path, wait=False)
    assert handle is not None
    os.close(handle)


def test_a_fork_that_lives_on_does_not_keep_it(tmp_path):
    """As a worker of a data loader may."""
    with locked(tmp_path / "x.lock"):
        child = os.fork()
        if not child:
            signal.pause()
    handle = take(tmp_path / "x.lock", wait=False)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert handle is not None
    os.close(handle)


def test_a_removed_file_is_made_anew_and_locked(tmp_path, monkeypatch):
    import fcntl

    flock, path = fcntl.flock, tmp_path / "x.lock"
    removed: list[Path] = []

    def late(handle: int, how: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    handle = take(path)
    assert handle is not None and os.path.samestat(path.stat(), os.fstat(handle))
    os.close(handle)


def test_an_interrupt_while_waiting_leaves_nothing_open(tmp_path, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *a: opened.append(real(*a)) or opened[-1])

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fcntl.flock", pressed)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path / "x.lock")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_disk_that_knows_no_locks_is_told(tmp_path, monkeypatch, caplog):
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with locked(tmp_path / "x.lock"):
        assert "cannot be locked" in caplog.text
