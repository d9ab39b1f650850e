"""sweep.json: numbers of jobs, and one sweep a folder."""

from __future__ import annotations

import pytest

from unlearning.errors import ConfigError
from unlearning.sweep.state import Job, Sweep, claimed, is_sweep


def test_saved_and_loaded(tmp_path):
    sweep = Sweep(tmp_path, ["seed=0,1"], {0: Job(["seed=0"], "finished", 0, 1.5, [0.1, 2.0])})
    sweep.number_of(["seed=1"], 1)
    sweep.save()
    loaded = Sweep.load(tmp_path)
    assert loaded.jobs == sweep.jobs and loaded.overrides == ["seed=0,1"]
    assert loaded.unfinished() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_jobs_keep_their_numbers_and_never_take_another_ones(tmp_path):
    sweep = Sweep(tmp_path, [], {0: Job(["seed=5", "model=a"]), 2: Job(["seed=7"])})
    (tmp_path / "3").mkdir()
    (tmp_path / "3/metrics.json").touch()
    assert sweep.number_of(["model=a", "seed=5"], first=9) == 0
    assert sweep.number_of(["seed=1"], first=0) == 1
    assert sweep.number_of(["seed=2"], first=2) == 4  # 2 is a job's, 3 holds someone's run


@pytest.mark.parametrize("content", [None, "{", '{"jobs": {"0": {"unheard_of": 1}}}'])
def test_what_is_no_sweep_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ConfigError, match=r"no sweep folder|cannot be read"):
        Sweep.load(tmp_path)


def test_a_second_sweep_in_the_folder_is_refused(tmp_path):
    with (
        claimed(tmp_path),
        pytest.raises(ConfigError, match="Another sweep runs"),
        claimed(tmp_path),
    ):
        pass
    with claimed(tmp_path):
        pass


def test_a_run_is_told_from_a_sweep(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match="It is a run: unlearn resume="):
        Sweep.load(tmp_path)
    assert not is_sweep(tmp_path)
