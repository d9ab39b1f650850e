"""Files of W&B's that a kill has cut short."""

from __future__ import annotations

import json
import shutil

import pytest
import wandb

from unlearning.run.tracking.files import mend_parts, whole_entries

from .wandb_files import OfflineRun


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A finished offline run of several blocks."""
    folder = tmp_path_factory.mktemp("written")
    settings = wandb.Settings(console="off", silent=True)
    run = wandb.init(project="p", id="abc", mode="offline", dir=str(folder), settings=settings)
    for step in range(300):
        run.log({"loss": step, "text": "x" * (200 if (step + 1) % 50 else 40000)})
    run.finish()
    [path] = folder.glob("wandb/offline-run-*-abc")
    assert OfflineRun(path).exit_code == 0
    return path


def test_a_whole_file_stays_as_it_is(written):
    [file] = written.glob("*.wandb")
    content = file.read_bytes()
    assert len(content) > 3 * 32768 and whole_entries(content) == len(content)
    mend_parts(written.parent, "abc")
    assert file.read_bytes() == content


@pytest.mark.parametrize("cut", [40, 5000, 32768, 32770, 32775, 70001, 98304, 150000])
def test_what_a_kill_left_is_cut_to_whole_entries(cut, written, tmp_path):
    part = tmp_path / "wandb" / written.name
    shutil.copytree(written, part)
    [file] = part.glob("*.wandb")
    [whole] = written.glob("*.wandb")
    file.write_bytes(whole.read_bytes()[:cut])
    mend_parts(part.parent, "abc")
    if cut == 40:  # less than its first entry
        assert not part.exists()
        return
    assert whole_entries(file.read_bytes()) == file.stat().st_size <= cut
    steps = [json.loads(i.value_json) for row in OfflineRun(part, patience=0).of("history")
             for i in row.item if "loss" in (i.key, *i.nested_key)]  # fmt: skip
    assert steps == list(range(len(steps))) and (steps or cut <= 5000)


def test_other_runs_and_unknown_files_are_left_alone(tmp_path):
    for name, content in {"offline-run-1-abc": b"another format", "offline-run-1-xyz": b""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.wandb").write_bytes(content)
    mend_parts(tmp_path, "abc")
    assert len(list(tmp_path.iterdir())) == 2
