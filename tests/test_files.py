"""Made once, by one process; never seen half."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from unlearning.files import aside_of, atomic_write, made_once, sync, write_json, write_text


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
    assert synced == [*map(str, made), str(tmp_path)]  # and the folder, which holds the name


def test_of_a_folder_every_part_is_synced(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").touch()
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    sync(tmp_path)
    assert len(synced) == 3


@pytest.mark.parametrize("shared", [False, True])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, shared):
    path = tmp_path / "x.txt"
    write_text(path, "old\r\nline\n")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, shared) as aside:
        aside.write_text("half")
        assert path.read_bytes() == b"old\r\nline\n"
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_bytes() == b"old\r\nline\n"


def test_a_folder_appears_whole_and_replaces_none(tmp_path):
    path = tmp_path / "a/model"
    aside_of(path).mkdir(parents=True)
    (aside_of(path) / "left by a killed process").touch()
    with atomic_write(path) as aside:
        aside.mkdir()
        (aside / "weights").touch()
        assert not path.exists()
    assert [p.name for p in path.iterdir()] == ["weights"]
    with pytest.raises(OSError, match="not empty"), atomic_write(path) as aside:
        aside.mkdir()
    assert [p.name for p in path.parent.iterdir()] == ["model"]


def test_processes_that_share_a_file_write_under_names_of_their_own(tmp_path):
    with atomic_write(tmp_path / "x", shared=True) as aside:
        aside.write_text("ours")
        assert str(os.getpid()) in aside.name
        write_text(tmp_path / "x", "theirs")
        assert aside.read_text() == "ours"
    assert (tmp_path / "x").read_text() == "ours"


def test_json_is_whole_or_refused(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": math.inf})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1.5}


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
