"""Sweeps by submitit in its local mode: one task a job, and one a device."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

from unlearning.sweep import export_environment, multirun

SWEEP = ["-m", "experiment=demo", "hydra/launcher=slurm_local", "hydra.sweep.dir=s"]


@pytest.fixture
def stand_in_tasks(monkeypatch, tmp_path):
    """Tasks whose run is the one of `sitecustomize.py`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "s"


def told(sweep, job, rank=0):
    return json.loads((sweep / f"{job}/rank_{rank}.json").read_text(encoding="utf-8"))


def test_one_task(stand_in_tasks):
    assert multirun([*SWEEP, "seed=0,1", "sweep.objectives=[steps]"]) == 0
    for job in (0, 1):
        seen = told(stand_in_tasks, job)
        assert seen["seed"] == job and seen["SUBMITIT_EXECUTOR"] == "local"
        assert seen["sweep"] == {"name": "s", "job": f"seed={job}", "resume": None}
        assert "RANK" not in seen and not seen["resume"]


def test_two_tasks_a_node(stand_in_tasks):
    words = ["seed=0,1", "trainer.devices=2", "sweep.objectives=[steps]"]
    assert multirun([*SWEEP, *words]) == 0
    ports = set()
    for job in (0, 1):
        ranks = [told(stand_in_tasks, job, rank) for rank in (0, 1)]
        assert [seen["LOCAL_RANK"] for seen in ranks] == ["0", "1"]
        assert {seen["WORLD_SIZE"] for seen in ranks} == {"2"}
        meeting = {(seen["MASTER_ADDR"], seen["MASTER_PORT"]) for seen in ranks}
        assert len(meeting) == 1
        ports |= meeting
    assert len(ports) == 2, "jobs side by side would meet each other"


def test_a_failed_job_is_told(stand_in_tasks, capsys):
    assert multirun([*SWEEP, "seed=13,1"]) == 1
    assert "exit code 1" in capsys.readouterr().out
    assert (stand_in_tasks / "1/metrics.json").is_file()


def test_it_does_not_go_on_with_a_sweep(stand_in_tasks, capsys):
    stand_in_tasks.mkdir()
    content = {"version": "0", "overrides": ["seed=0,1"], "jobs": {}}
    (stand_in_tasks / "sweep.json").write_text(json.dumps(content))
    assert multirun(["-m", "sweep.resume=s", "hydra/launcher=slurm_local"]) == 2
    assert "hydra/launcher=processes" in capsys.readouterr().err


def test_outside_of_submitit_nothing_is_exported(monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    before = dict(os.environ)
    export_environment()
    assert dict(os.environ) == before


@pytest.mark.slow
@pytest.mark.ddp
def test_a_real_run_on_two_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNLEARNING_CACHE", str(tmp_path / "cache"))
    words = [
        "trainer=debug",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "sweep.objectives=[steps]",
    ]
    assert multirun([*SWEEP, *words, "seed=0"]) == 0
    metrics = json.loads((tmp_path / "s/0/metrics.json").read_text(encoding="utf-8"))
    assert metrics["steps"] == 3
    assert (tmp_path / "s/0/report.html").is_file()
