"""`unlearn -m` through Hydra, with stand-ins for the runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from sweep.conftest import STAND_IN, calls, jobs
from unlearning.sweep import multirun, processes, wants_multirun

HARM = "after.harmful_heldout/harmful_rate"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["-m", "seed=0,1"], True),
        (["seed=0,1", "--multirun"], True),
        (["hydra.mode=MULTIRUN"], True),
        (["seed=0"], False),
        (["-m", "seed=0,1", "--cfg", "job"], False),
        (["-m", "--cfg=job"], False),
    ],
)
def test_what_asks_for_a_sweep(arguments, wanted):
    assert wants_multirun(arguments) is wanted


def test_importing_it_loads_no_torch():
    code = "import sys, unlearning.sweep; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_grid_with_a_crash_and_its_resume(stand_in, capsys):
    grid = [
        "experiment=demo",
        "objective.forget.weight=1,13",
        "seed=0,1",
        f"sweep.objectives=[{HARM}]",
    ]
    code = multirun(["-m", *grid, "hydra.sweep.dir='my sweep'", "hydra.launcher.n_jobs=2"])
    printed = capsys.readouterr().out
    assert code == 1
    assert "2 of 4 jobs finished" in printed
    assert "job 3 failed (exit code 1), see my sweep/3/job.log: forget.weight=13 seed=1" in printed
    words = calls(stand_in / "my sweep/1")[0]["words"]
    assert words == [
        "experiment=demo", "objective.forget.weight=1", "seed=1", "hydra.run.dir='my sweep/1'",
        "sweep.name='my sweep'", "sweep.job='forget.weight=1 seed=1'",
    ]  # fmt: skip
    assert jobs(stand_in / "my sweep")[0]["objectives"] == [0.5]

    assert multirun(["-m", *grid, "sweep.resume='my sweep'"]) == 0
    assert [len(calls(stand_in / f"my sweep/{n}")) for n in range(4)] == [1, 1, 2, 2]
    assert {job["status"] for job in jobs(stand_in / "my sweep").values()} == {"finished"}

    assert multirun(["-m", *grid, "hydra.sweep.dir='my sweep'"]) == 2
    assert "holds a sweep" in capsys.readouterr().err
    assert multirun(["-m", "sweep.resume='my sweep'", "seed=3"]) == 2
    assert "Given now: seed=3" in capsys.readouterr().err


def test_an_objective_that_is_not_there_is_told(stand_in, capsys):
    assert multirun(["-m", "seed=0,1", "sweep.objectives=[after.x]", "hydra.sweep.dir=s"]) == 1
    assert "without objectives: job 0, 1" in capsys.readouterr().out
    assert multirun(["-m", "sweep.resume=s", f"sweep.objectives=[{HARM}]"]) == 0
    assert [job["objectives"] for job in jobs(stand_in / "s").values()] == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective.forget.wieght=1,2"], "Did you mean 'objective.forget.weight'"),
        (["objective.forget.weight=interval(0,1)"], "add hydra/sweeper=pareto"),
        (["seed=0,1", "trainer.accelerator=gpu"], "GPU.s.; there are 0"),
        (["seed=0,1", "hydra.sweep.subdir=x"], "numbered folders"),
        (
            ["hydra/launcher=basic", "trainer.devices=2"],
            "would start with the sweep's command line",
        ),
        (["hydra/launcher=basic", "trainer.devices=1,2"], "would start with the sweep's command"),
        (["sweep.resume=nowhere"], "no sweep folder"),
        (["resume=runs/x"], "leave out -m"),
        (["-x"], "overrides only"),
        (["hydra.launcher.n_jobs=0"], "n_jobs=0"),
        (["model=tiny", "model.base.vocab_sise=1,2"], "model.base.vocab_size"),
        (["method=paper,npo", "objective.forget.options.beta=1"], "options.beta"),
    ],
)
def test_bad_input_is_one_sentence_before_any_job(words, said, stand_in, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert multirun(["-m", *words, "hydra.sweep.dir=s"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(said, error), error
    assert not (stand_in / "s").exists()


def test_one_of_several_ranks_is_refused(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert multirun(["-m", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert "Start it once" in capsys.readouterr().err


def test_a_second_sweep_on_the_folder_is_refused(stand_in, capsys):
    from unlearning.sweep.state import claimed

    with claimed(stand_in / "s"):
        assert multirun(["-m", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert "Another sweep runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0/thesis.tex", []),
        ("metrics.csv", []),
        ("config.yaml", []),
        ("multirun.yaml", ["hydra/launcher=basic"]),
    ],
)
def test_a_folder_with_what_no_sweep_made_is_refused(stand_in, capsys, name, words):
    (stand_in / "s" / name).parent.mkdir(parents=True)
    (stand_in / "s" / name).write_text("theirs")
    assert multirun(["-m", "seed=0,1", *words, "hydra.sweep.dir=s"]) == 2
    found = f"holds what this sweep has not made: {name.split('/')[0]}"
    assert found in capsys.readouterr().err
    files = [path for path in (stand_in / "s").rglob("*") if path.is_file()]
    assert files == [stand_in / "s" / name] and files[0].read_text() == "theirs"


def test_submitit_needs_one_task_a_device(stand_in, capsys):
    pytest.importorskip("submitit")
    words = ["hydra/launcher=slurm_local", "hydra.launcher.tasks_per_node=1", "trainer.devices=2"]
    assert multirun(["-m", *words, "hydra.sweep.dir=s"]) == 2
    assert "tasks_per_node=1 process(es) on a node" in capsys.readouterr().err
    assert multirun(["-m", "hydra/launcher=slurm_local", "trainer=ddp", "hydra.sweep.dir=s"]) == 2
    assert "trainer.devices=auto needs one a device" in capsys.readouterr().err


def test_a_cluster_is_looked_for_first(stand_in, capsys, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    assert multirun(["-m", "hydra/launcher=slurm", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert "hydra/launcher=slurm_local" in capsys.readouterr().err


def test_what_a_run_would_refuse_is_its_own_failure(stand_in, capsys, monkeypatch):
    """A job that exits with 2 (bad input) ends itself alone."""
    refuses = "import sys; print('error: no such file', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", refuses])
    assert multirun(["-m", "seed=0,1", "hydra.sweep.dir=s"]) == 1
    assert [job["exit_code"] for job in jobs(stand_in / "s").values()] == [2, 2]
    assert "seed=1; see s/1/job.log\n      error: no such file\n" in capsys.readouterr().out


def test_a_sweep_that_only_validates_has_no_report(stand_in, capsys, monkeypatch):
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", ""])
    assert multirun(["-m", "seed=0,1", "validate=true", "hydra.sweep.dir=s"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 jobs finished" in printed and "Report" not in printed
    assert not (stand_in / "s/sweep.html").exists()


def test_on_a_terminal_one_job_at_a_time_shows_its_output(tmp_path):
    """And a Ctrl-C there, which the terminal sends to everybody, reaches the job once."""
    code = (
        "import sys\nfrom unlearning.sweep import multirun, processes\n"
        f"processes.COMMAND = [sys.executable, {str(STAND_IN)!r}]\n"
        "sys.exit(multirun(sys.argv[1:]))"
    )
    words = ["-m", "objective.forget.weight=1,99", "hydra.sweep.dir=s"]
    master, slave = os.openpty()
    sweep = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave,
        preexec_fn=lambda: os.login_tty(slave),
    )  # fmt: skip
    os.close(slave)
    output, pressed = b"", False
    while chunk := _read(master):
        output += chunk
        if not pressed and output.count(b"working") == 2:
            pressed = bool(os.write(master, b"\x03"))
    assert sweep.wait() == 130, output
    assert b"[1/2] job 1 interrupted after" in output and b"(exit code 130)" in output
    assert b"To go on: unlearn -m sweep.resume=s" in output
    assert not (tmp_path / "s/0/job.log").exists()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:  # the other end is closed
        return b""
