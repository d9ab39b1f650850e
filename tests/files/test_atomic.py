"""Written whole or not at all; what is in the way is renamed, what was left is cleared."""

from __future__ import annotations

import json
import math
import os
import subprocess

import pytest

from unlearning.files.atomic import (
    aside_of,
    atomic_write,
    remove,
    remove_leftovers,
    set_aside,
    sync,
    write_json,
    write_text,
)


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


# --- what is in the way, and what was left -------------------------------------------------------


def test_what_is_set_aside_replaces_nothing(tmp_path):
    for text in ("first", "second"):
        (tmp_path / "model").mkdir()
        (tmp_path / "model/weights").write_text(text)
        set_aside(tmp_path / "model", "replaced")
    assert (tmp_path / "model.replaced-1/weights").read_text() == "first"
    assert (tmp_path / "model.replaced-2/weights").read_text() == "second"
    assert not (tmp_path / "model").exists()


def test_of_a_link_the_link_is_removed(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/weights").touch()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert (tmp_path / "theirs/weights").is_file() and not (tmp_path / "link").is_symlink()


def test_only_what_killed_processes_left_is_cleared(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone = [".a.json.partial", f".b.html.{dead.pid}.partial", f".model.{dead.pid}.tmp"]
    kept = [
        f".c.html.{os.getpid()}.partial", f".model.{os.getpid()}.tmp", "mine.partial", ".partial",
        ".notes.tmp", ".env",
    ]  # fmt: skip
    for name in [*gone, *kept]:
        (tmp_path / name).touch()
    (tmp_path / ".model.partial/inner").mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
