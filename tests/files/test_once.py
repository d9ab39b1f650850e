"""Made once, by one process; never seen half, and never used when damaged."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from unlearning.errors import ConfigError
from unlearning.files.locks import locked
from unlearning.files.once import lock_of, made_once, remove_unfinished


def test_it_is_made_once_and_then_found(tmp_path):
    made = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("whole")

    first = made_once(tmp_path / "a/b.json", make)
    assert made_once(tmp_path / "a/b.json", make) == first == tmp_path / "a/b.json"
    assert len(made) == 1 and made[0] != first and first.read_text() == "whole"


def test_what_fails_leaves_neither_file_nor_lock(tmp_path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "x.bin", fail)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}
    made_once(tmp_path / "x.bin", lambda path: path.write_text("whole"))
    assert (tmp_path / "x.bin").read_text() == "whole"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    made = []
    made_once(tmp_path / "x", lambda path: made.append(path.write_text("whole") and path))
    assert synced[-2:] == [*map(str, made), str(tmp_path)]  # and the folder, which holds the name


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert made_once("~/x", lambda path: path.write_text("")) == tmp_path / "x"


def _slowly(folder: Path, together: Barrier) -> None:
    def make(path: Path) -> None:
        with (folder / "log").open("a") as log:
            log.write("made\n")
        path.write_text("half")
        time.sleep(0.3)
        path.write_text("whole")

    together.wait()
    assert made_once(folder / "x.txt", make).read_text() == "whole"


@pytest.mark.ddp
def test_side_by_side_one_makes_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(3)
    processes = [context.Process(target=_slowly, args=(tmp_path, together)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


# --- damage --------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": _flipped,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "removed": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [*(("x.bin", d) for d in DAMAGE), *(("x.bin.sha256", d) for d in list(DAMAGE)[:4])],
)
def test_a_damaged_file_is_made_again_and_never_used(tmp_path, caplog, name, damage):
    made = []

    def make(path: Path) -> None:
        made.append(path.write_bytes(CONTENT))

    made_once(tmp_path / "x.bin", make)
    DAMAGE[damage](tmp_path / name)
    spoiled = (tmp_path / "x.bin").read_bytes() if (tmp_path / "x.bin").is_file() else None
    with caplog.at_level(logging.WARNING, logger="unlearning"):
        assert made_once(tmp_path / "x.bin", make).read_bytes() == CONTENT
    assert len(made) == 2
    if (name, damage) != ("x.bin", "removed"):  # nothing was lost, and one line says so
        assert len(caplog.messages) == 1 and "is damaged" in caplog.text
        if spoiled is not None:
            assert (tmp_path / "x.bin.damaged-1").read_bytes() == spoiled
    caplog.clear()
    made_once(tmp_path / "x.bin", make)
    assert len(made) == 2 and not caplog.messages


def test_the_checksum_is_what_sha256sum_reads(tmp_path):
    path = made_once(tmp_path / "x.bin", lambda path: path.write_bytes(CONTENT))
    expected = f"{hashlib.sha256(CONTENT).hexdigest()}  x.bin\n"
    assert path.with_name("x.bin.sha256").read_text() == expected


def test_a_damaged_file_that_cannot_be_renamed_is_refused(tmp_path, monkeypatch):
    path = made_once(tmp_path / "x.bin", lambda path: path.write_bytes(CONTENT))
    _flipped(path)

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", read_only)
    with pytest.raises(ConfigError, match=r"x\.bin is damaged .*cannot be renamed.*Remove it"):
        made_once(path, lambda path: path.write_bytes(CONTENT))


def test_what_a_killed_process_had_begun_is_cleared_and_what_lives_is_not(tmp_path):
    for name in ("dead", "alive", "foreign"):
        (tmp_path / f".{name}.partial").mkdir()
        (tmp_path / f".{name}.partial/weights").touch()
    lock_of(tmp_path / "dead").touch()
    with locked(lock_of(tmp_path / "alive")):
        remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*.partial")) == [
        ".alive.partial", ".foreign.partial",
    ]  # fmt: skip


def test_a_file_and_its_checksum_have_one_lock(tmp_path):
    assert lock_of(tmp_path / "x.bin") == lock_of(tmp_path / "x.bin.sha256") == tmp_path / "x.lock"
