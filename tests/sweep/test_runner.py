"""Jobs as processes: side by side, failing alone, stopped, taken up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sweep.conftest import STAND_IN, calls
from unlearning.files.locks import take
from unlearning.sweep import processes
from unlearning.sweep.runner import Plan, Runner
from unlearning.sweep.state import Job, Sweep


@pytest.fixture
def lines():
    return []


def plans(sweep, *weights):
    made = []
    for weight in weights:
        overrides = [f"objective.forget.weight={weight}"]
        number = sweep.number_of(overrides, 0)
        words = (*overrides, f"hydra.run.dir='{sweep.path(number)}'")
        made.append(
            Plan(number, f"weight={weight}", words, ("after.harmful_heldout/harmful_rate",))
        )
    return made


def run(folder, lines, *weights, places=1):
    sweep = Sweep.load(folder) if (folder / "sweep.json").exists() else Sweep(folder, [])
    runner = Runner(sweep, [{} for _ in range(places)], False, lines.append)
    return sweep, runner.run(plans(sweep, *weights))


def test_a_crash_ends_that_job_alone(stand_in, lines):
    sweep, stopped_by = run(stand_in, lines, 13, 1)
    assert stopped_by is None
    assert [job.status for job in sweep.jobs.values()] == ["failed", "finished"]
    assert sweep.jobs[0].exit_code == 1 and sweep.jobs[1].objectives == [0.5]
    assert "a mishap" in (stand_in / "0/job.log").read_text()
    assert any("job 0 failed" in line and "0/job.log" in line for line in lines)
    assert Sweep.load(stand_in).jobs == sweep.jobs


def test_what_failed_goes_on_and_what_finished_is_left_alone(stand_in, lines):
    run(stand_in, lines, 13, 1)
    sweep, _ = run(stand_in, lines, 13, 1)
    assert [job.status for job in sweep.jobs.values()] == ["finished", "finished"]
    assert [call["words"] for call in calls(stand_in / "0")][1:] == [[f"resume={stand_in}/0"]]
    assert len(calls(stand_in / "1")) == 1


def test_without_a_config_it_starts_anew(stand_in, lines):
    run(stand_in, lines, 13)
    (stand_in / "0/config.yaml").unlink()
    run(stand_in, lines, 13)
    first, second = calls(stand_in / "0")
    assert first["words"] == second["words"]


def test_an_exit_without_results_is_a_failure(stand_in, lines, monkeypatch):
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", "pass"])
    sweep, _ = run(stand_in, lines, 1)
    assert sweep.jobs[0].status == "failed" and "no metrics.json" in lines[-1]


def test_as_many_side_by_side_as_there_are_places(stand_in, lines, monkeypatch):
    monkeypatch.setenv("NAP", "0.5")
    sweep, _ = run(stand_in, lines, 1, 2, 3, 4, places=2)
    began = {n: calls(stand_in / str(n))[0]["began"] for n in sweep.jobs}
    ended = {n: (stand_in / f"{n}/metrics.json").stat().st_mtime for n in sweep.jobs}
    together = [sum(began[o] <= began[n] < ended[o] for o in sweep.jobs) for n in sweep.jobs]
    assert max(together) == 2, together


def test_a_job_sees_its_place_and_no_ranks(stand_in, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    sweep = Sweep(stand_in, [])
    runner = Runner(sweep, [{"CUDA_VISIBLE_DEVICES": "3"}], False, lambda _: None)
    runner.run(plans(sweep, 1))
    seen = calls(stand_in / "0")[0]["environment"]
    assert seen["CUDA_VISIBLE_DEVICES"] == "3" and seen["SLURM_JOB_ID"] == "77"
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS"} & seen.keys()
    assert "TORCHELASTIC_RUN_ID" not in seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_every_job_and_nothing_new_starts(number, code, stand_in, lines):
    def stop_when_both_work():
        for job in (0, 1):
            wait_for(stand_in / f"{job}/config.yaml")
        os.kill(os.getpid(), number)

    waiting = threading.Thread(target=stop_when_both_work)
    waiting.start()
    # Two that wait, and are told apart by a digit that says nothing.
    sweep, stopped_by = run(stand_in, lines, 99, "99.0", 1, places=2)
    waiting.join()
    assert stopped_by == number
    assert [(job.status, job.exit_code) for job in sweep.jobs.values()] == [
        ("interrupted", code), ("interrupted", code), ("pending", None),
    ]  # fmt: skip
    assert not sweep.path(2).exists()
    sweep, stopped_by = run(stand_in, lines, 99, "99.0", 1, places=2)
    assert stopped_by is None and sweep.unfinished() == []
    assert calls(stand_in / "0")[1]["words"] == [f"resume={stand_in}/0"]


def test_a_job_that_still_runs_is_waited_for(stand_in, lines):
    (stand_in / "0").mkdir()
    lock = take(stand_in / "0/.job.lock", wait=False)
    assert lock is not None
    earlier = subprocess.Popen(
        [sys.executable, str(STAND_IN), "objective.forget.weight=3", f"hydra.run.dir={stand_in}/0"],
        env={**os.environ, "NAP": "2"}, pass_fds=(lock,),
    )  # fmt: skip
    os.close(lock)
    Sweep(stand_in, [], {0: Job(["objective.forget.weight=3"], "running")}).save()
    sweep, _ = run(stand_in, lines, 3, 1)
    earlier.wait()
    assert len(calls(stand_in / "0")) == 1, "started beside the one that ran"
    assert sweep.unfinished() == [] and sweep.jobs[0].objectives == [0.25]
    assert sum("still runs" in line for line in lines) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a child")
def test_a_job_saves_and_ends_when_the_sweep_is_killed(stand_in):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from unlearning.sweep import processes\nfrom unlearning.sweep.runner import Plan, Runner\n"
        "from unlearning.sweep.state import Sweep\n"
        f"processes.COMMAND = [sys.executable, {str(STAND_IN)!r}]\n"
        "sweep = Sweep(Path('.'), [])\nsweep.number_of(['x'], 0)\n"
        "words = ('objective.forget.weight=99', 'hydra.run.dir=0')\n"
        "Runner(sweep, [{}], False, print).run([Plan(0, '', words)])\n"
    )
    sweep = subprocess.Popen([sys.executable, "-c", code], cwd=stand_in, stdout=subprocess.DEVNULL)
    wait_for(stand_in / "0/config.yaml")
    assert take(stand_in / "0/.job.lock", wait=False) is None
    sweep.kill()
    sweep.wait()
    deadline = time.monotonic() + 300
    while (lock := take(stand_in / "0/.job.lock", wait=False)) is None:
        assert time.monotonic() < deadline, "the job outlived its sweep"
        time.sleep(0.05)
    os.close(lock)


def wait_for(path, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.is_file() or not path.stat().st_size:
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)
