"""Whole checkpoints: what is written, what a broken one is taken for, and which ones stay."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.load import _lazy_load

from unlearning.checkpoints import (
    WholeCheckpointIO,
    checkpoint_path,
    clean,
    mark_best,
    newest_whole,
    problem,
    prune,
    remove_partial,
    save,
    write_sums,
    write_whole,
)
from unlearning.checkpoints.whole import LABEL
from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule


@pytest.fixture
def state() -> dict:
    torch.manual_seed(0)
    weights = {f"layer{n}.weight": torch.randn(64, 64) for n in range(4)}
    return {"state_dict": weights, "global_step": 3, "loops": {"a": [1, 2.5, None]}}


def write(folder: Path, state: dict, *steps: int) -> None:
    for step in steps:
        write_whole(state, checkpoint_path(folder, step))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_torch_and_zip_read_it_as_ever(state, tmp_path):
    path = tmp_path / "new/folder/step=3.ckpt"
    write_whole(state, path)
    assert names(path.parent) == ["step=3.ckpt"] and problem(path) is None
    torch.save(state, tmp_path / "plain.ckpt")
    for options in ({"weights_only": True}, {"weights_only": False}, {"mmap": True}):
        found = torch.load(path, **options)
        assert found["loops"] == state["loops"] and found["global_step"] == 3
        for name, weight in state["state_dict"].items():
            assert torch.equal(found["state_dict"][name], weight)
    assert _lazy_load(path)["global_step"] == 3  # what FSDP reads with
    assert zipfile.ZipFile(path).testzip() is None
    size = path.stat().st_size - (tmp_path / "plain.ckpt").stat().st_size
    assert abs(size) < 200  # nothing but the sum, and torch's own name of the archive


def test_the_sum_is_that_of_the_archive_without_its_comment(state, tmp_path):
    path = tmp_path / "a.ckpt"
    write_whole(state, path)
    comment = zipfile.ZipFile(path).comment
    bare = path.read_bytes()[: -len(comment) - 2] + b"\0\0"
    assert comment == b"sha256:" + hashlib.sha256(bare).hexdigest().encode()
    path.write_bytes(bare)
    assert zipfile.ZipFile(path).comment == b"" and torch.load(path)["global_step"] == 3


@pytest.mark.parametrize("place", [0, 10, 5000, -200, -60, -1, -73, -72])
def test_one_changed_byte_is_found(state, tmp_path, place):
    path = tmp_path / "step=1.ckpt"
    write_whole(state, path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert "checksum" in (problem(path) or "")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99, 0.9999])
def test_a_file_that_was_cut_short_is_found(state, tmp_path, share):
    path = tmp_path / "step=1.ckpt"
    write_whole(state, path)
    os.truncate(path, int(path.stat().st_size * share))
    assert "cut short" in (problem(path) or "")


def test_what_others_wrote_or_cannot_be_read_is_not_whole(state, tmp_path):
    torch.save(state, tmp_path / "step=1.ckpt")
    assert "no checksum" in (problem(tmp_path / "step=1.ckpt") or "")
    (tmp_path / "step=2.ckpt").mkdir()
    assert "no checksums" in (problem(tmp_path / "step=2.ckpt") or "")
    (tmp_path / "step=3.ckpt").symlink_to("nowhere")
    assert "cannot be read" in (problem(tmp_path / "step=3.ckpt") or "")


def test_the_newest_whole_one_by_step_and_why_others_were_skipped(state, tmp_path):
    assert newest_whole(tmp_path / "absent") == (None, [])
    write(tmp_path, state, 9, 100, 20)
    os.utime(tmp_path / "step=9.ckpt")  # the youngest file, but not the newest step
    assert newest_whole(tmp_path) == (tmp_path / "step=100.ckpt", [])
    os.truncate(tmp_path / "step=100.ckpt", 3000)
    write_whole(state, tmp_path / "step=200.ckpt")
    (tmp_path / "step=200.ckpt").rename(tmp_path / ".step=200.ckpt.partial")  # not finished
    found, skipped = newest_whole(tmp_path)
    assert found == tmp_path / "step=20.ckpt"
    (line,) = skipped
    assert "step=100.ckpt is not whole and was skipped: " in line and "cut short" in line
    for path in tmp_path.glob("*.ckpt"):
        path.write_bytes(b"")
    found, skipped = newest_whole(tmp_path)
    assert found is None and len(skipped) == 3


def test_a_folder_is_whole_with_its_sums(tmp_path):
    """As DeepSpeed writes one, and FSDP where the state stays sharded."""
    folder = tmp_path / "step=5.ckpt"
    (folder / "shards").mkdir(parents=True)
    (folder / "shards/0.pt").write_bytes(b"0" * 9000)
    (folder / "meta.pt").write_bytes(b"1" * 90)
    assert newest_whole(tmp_path)[0] is None
    write_sums(folder)
    assert newest_whole(tmp_path) == (folder, [])
    (folder / "shards/0.pt").write_bytes(b"0" * 8999)
    assert "shards/0.pt" in newest_whole(tmp_path)[1][0]
    (folder / "shards/0.pt").unlink()
    assert "shards/0.pt is missing" in (problem(folder) or "")
    (folder / "sha256.json").write_text("{")
    assert "cannot be read" in (problem(folder) or "")
    clean(tmp_path, "none")
    assert not tmp_path.exists()


def test_loading_verifies(state, tmp_path):
    io, path = WholeCheckpointIO(), tmp_path / "step=1.ckpt"
    io.save_checkpoint(state, path)
    assert io.load_checkpoint(path, weights_only=True)["global_step"] == 3
    data = bytearray(path.read_bytes())
    data[3000] ^= 1  # within a tensor: torch itself would not notice
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"step=1\.ckpt is not whole: the checksum"):
        io.load_checkpoint(path)


# --- a write that fails --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_full_disk_says_so_and_leaves_the_old_one(state, tmp_path, size):
    """/dev/full stands in for the disk: as soon as the system is asked to write, it is full."""
    path = tmp_path / "step=1.ckpt"
    write_whole(state, path)
    before = path.read_bytes()
    (tmp_path / ".step=1.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_whole({"weights": torch.zeros(size)}, path)
    assert path.read_bytes() == before and names(tmp_path) == ["step=1.ckpt"]
    write_whole(state, path)  # and when there is room again


@pytest.mark.parametrize("stage", ["write", "fsync", "rename"])
def test_a_crash_at_any_stage_leaves_the_old_one(state, tmp_path, monkeypatch, stage):
    """Here Ctrl-C, which may come anywhere; what SIGKILL leaves is tried in tests/run/test_kill."""
    path = tmp_path / "step=1.ckpt"
    write_whole(state, path)
    before = path.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    target = {"write": "torch.save", "fsync": "os.fsync", "rename": "pathlib.Path.replace"}
    monkeypatch.setattr(target[stage], stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole({**state, "global_step": 4}, path)
    assert path.read_bytes() == before and names(tmp_path) == ["step=1.ckpt"]


def test_it_is_on_the_disk_before_it_has_its_name(state, tmp_path, monkeypatch):
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_whole(state, tmp_path / "step=1.ckpt")
    assert calls == ["file", "rename", "folder"]


# --- which ones stay -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "keep", "best", "left"),
    [
        (40, 2, None, [30, 40, 50]),  # 50 is beyond the step: a resume found it broken
        (50, 2, None, [40, 50]),
        (50, 1, 20, [20, 50]),
        (50, 3, 50, [30, 40, 50]),
        (50, 9, 10, [10, 20, 30, 40, 50]),
    ],
)
def test_the_last_ones_and_the_best_stay(tmp_path, step, keep, best, left):
    for number in (10, 20, 30, 40, 50):
        checkpoint_path(tmp_path, number).touch()
    (tmp_path / "mine.ckpt").touch()
    prune(tmp_path, step, keep, best)
    assert names(tmp_path) == ["mine.ckpt", *(f"step={number}.ckpt" for number in left)]


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ("all", ["best.ckpt", "mine.ckpt", "step=10.ckpt", "step=20.ckpt", "step=30.ckpt"]),
        ("last", ["best.ckpt", "mine.ckpt", "step=10.ckpt", "step=30.ckpt"]),
        ("none", ["mine.ckpt"]),
    ],
)
def test_cleaning_up_after_a_finished_run(tmp_path, kept, left):
    for number in (10, 20, 30):
        checkpoint_path(tmp_path, number).touch()
    (tmp_path / "mine.ckpt").touch()
    mark_best(tmp_path, 20)
    mark_best(tmp_path, 10)
    clean(tmp_path, kept)
    assert names(tmp_path) == left
    clean(tmp_path / "absent", kept)


def test_an_empty_folder_goes_and_a_wrong_word_is_refused(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    checkpoint_path(folder, 3).touch()
    with pytest.raises(ConfigError, match=r"finished='some': .*choose one of all, last, none"):
        clean(folder, "some")  # type: ignore[arg-type]
    clean(folder, "none")
    assert not folder.exists()


def test_what_a_killed_run_was_writing_goes(tmp_path):
    (tmp_path / ".step=5.ckpt.partial").touch()
    (tmp_path / "step=4.ckpt").touch()
    remove_partial(tmp_path)
    assert names(tmp_path) == ["step=4.ckpt"]


# --- in a Trainer --------------------------------------------------------------------------------


def test_a_trainer_saves_whole_ones_unless_somebody_chose_otherwise(
    quiet_trainer, make_data, make_model, tmp_path
):
    class Own(TorchCheckpointIO):
        pass

    def fitted(**settings) -> Trainer:
        trainer = quiet_trainer(max_steps=1, **settings)
        trainer.fit(UnlearningModule(make_model()), make_data())
        return trainer

    trainer = fitted()
    path = save(trainer, tmp_path / "a")
    assert path == tmp_path / "a/step=1.ckpt" and problem(path) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = save(fitted(plugins=[Own()]), tmp_path / "b")
    assert LABEL not in other.read_bytes()[-200:]
    again = quiet_trainer(max_steps=2, plugins=[WholeCheckpointIO()])
    again.fit(UnlearningModule(make_model()), make_data(), ckpt_path=path, weights_only=True)
    assert again.global_step == 2
    os.truncate(path, 5000)
    with pytest.raises(ConfigError, match="not whole"):
        again.fit(UnlearningModule(make_model()), make_data(), ckpt_path=path)
