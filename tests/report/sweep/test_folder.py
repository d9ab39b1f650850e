from __future__ import annotations

import json

import pytest

from unlearning.errors import ConfigError
from unlearning.report.sweep.folder import is_sweep_folder, read_sweep_folder

from .sweeps import grid, harm_metrics, write_sweep


def test_jobs_come_in_the_order_of_their_numbers(read):
    jobs = [([f"seed={n}"], harm_metrics(0.1, 1.0), "finished") for n in range(12)]
    sweep = read(jobs, words=["seed=range(12)"])
    assert [job.name for job in sweep.jobs] == [str(n) for n in range(12)]
    assert sweep.jobs[10].overrides == ("seed=10",)
    assert sweep.jobs[0].seconds == 95.0
    assert sweep.words == ("seed=range(12)",)


def test_without_a_record_the_folders_speak(read):
    sweep = read(grid(seeds=(0,)), record=False)
    assert len(sweep.jobs) == 9 and not sweep.recorded
    assert sweep.jobs[0].seconds == 23.0  # 20 and 3, of its own stages
    assert {job.status for job in sweep.jobs} == {"finished"}


def test_metrics_outweigh_a_record_that_was_cut_short(read):
    sweep = read([(["seed=0"], harm_metrics(0.1, 1.0), "running"), (["seed=1"], None, "running")])
    assert [job.status for job in sweep.jobs] == ["finished", "running"]


def test_a_file_that_cannot_be_read_is_the_problem_of_its_job(tmp_path):
    write_sweep(tmp_path, grid(seeds=(0,)))
    (tmp_path / "3" / "metrics.json").write_text('{"after": ', encoding="utf-8")
    (tmp_path / "4" / "metrics.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "5" / "config.yaml").write_text("a: [", encoding="utf-8")
    jobs = read_sweep_folder(tmp_path).jobs
    assert "metrics.json could not be read" in jobs[3].problem
    assert "list instead of a mapping" in jobs[4].problem
    assert "config.yaml could not be read" in jobs[5].problem and jobs[5].metrics
    assert [job.problem for job in jobs[:3]] == ["", "", ""]


def test_what_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no job.*unlearn -m"):
        read_sweep_folder(tmp_path)
    (tmp_path / "sweep.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_sweep_folder(tmp_path)
    (tmp_path / "sweep.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a mapping"):
        read_sweep_folder(tmp_path)


def test_sweeps_are_told_from_runs(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", grid(seeds=(0,)))
    other = write_sweep(tmp_path / "other", grid(seeds=(0,)), record=False)
    assert is_sweep_folder(sweep) and is_sweep_folder(other)
    assert not is_sweep_folder(sweep / "0")
    assert not is_sweep_folder(tmp_path / "absent")
    assert not is_sweep_folder(tmp_path)  # folders of folders of runs


def test_a_job_that_was_never_started_has_no_folder(tmp_path):
    record = {"jobs": {"0": {"overrides": ["seed=0"], "status": "pending"}}}
    (tmp_path / "sweep.json").write_text(json.dumps(record), encoding="utf-8")
    (job,) = read_sweep_folder(tmp_path).jobs
    assert (job.status, job.metrics, job.seconds, job.files) == ("pending", {}, None, frozenset())
