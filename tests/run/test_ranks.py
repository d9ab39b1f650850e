"""Ranks that follow the first, and what becomes of a run when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from forked import Forked, run

from unlearning.errors import ConfigError
from unlearning.run.process.ranks import Ranks, surroundings
from unlearning.run.process.spawn import spawn

FOLLOW = """
import json, sys, time
from pathlib import Path
import torch
from unlearning.errors import ConfigError
from unlearning.run.process.ranks import Ranks, surroundings
from unlearning.run.output.store import Store

root, ranks = Path(sys.argv[1]), Ranks(surroundings())
said = [ranks.share({"n": 1} if ranks.leads else "not heard"), ranks.share()]
store = Store(root / "cache", ranks)

def alone(folder):
    folder.mkdir()
    (folder / "by").write_text(str(ranks.rank))

def all_of_them(folder):
    total = torch.ones(1) * (ranks.rank + 1)
    torch.distributed.all_reduce(total)
    if ranks.leads:
        folder.mkdir()
        (folder / "sum").write_text(str(total.item()))

one, kept_one = store.get("base", {"a": 1}, alone)
outside = torch.distributed.is_initialized()
two, kept_two = store.get("finetune", {"a": 1}, all_of_them, together=True)
again, kept_again = store.get("finetune", {"a": 1}, all_of_them, together=True)
if ranks.leads:
    time.sleep(0.5)  # whoever waits now is not in a hurry
found = {
    "said": said, "by": (one / "by").read_text(), "sum": (two / "sum").read_text(),
    "kept": [kept_one, kept_two, kept_again], "outside": outside, "world": ranks.world,
}
(root / f"rank_{ranks.rank}.json").write_text(json.dumps(found))
ranks.leave()
"""


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    return {**os.environ, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in names.items()}}


@pytest.mark.ddp
def test_the_others_wait_for_rank_0_and_join_it(tmp_path):
    from unlearning.run.process.spawn import _free_port

    port = _free_port()
    command = [sys.executable, "-c", FOLLOW, str(tmp_path)]
    started = [Forked(command, env=environment(rank, 3, port)) for rank in range(3)]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    for rank in range(3):
        assert json.loads((tmp_path / f"rank_{rank}.json").read_text()) == {
            "said": [{"n": 1}, None],
            "by": "0",
            "sum": "6.0",
            "kept": [False, False, True],
            "outside": False,
            "world": 3,
        }


LEFT_ALONE = """
import os, sys, time
from unlearning.run.process.ranks import Ranks, surroundings

ranks = Ranks(surroundings())
if ranks.leads:
    time.sleep(3)
    os._exit(2)
ranks.share()
"""


@pytest.mark.ddp
def test_whoever_waits_for_a_dead_rank_0_ends_with_one_sentence():
    from unlearning.run.process.spawn import _free_port

    port, command = _free_port(), [sys.executable, "-c", LEFT_ALONE]
    leader = Forked(command, env=environment(0, 2, port))
    waiting = run(command, env=environment(1, 2, port))
    assert (leader.wait(), waiting.returncode) == (2, 1)
    said = waiting.stderr
    assert "rank 0, for which this rank waited, has ended" in said
    assert "Traceback" not in said and "timed out" not in said, said


def test_processes_that_do_not_meet_are_told_so(monkeypatch):
    """As in a batch script without srun, where one of two is started."""
    from unlearning.run.process.spawn import _free_port

    for name, value in environment(0, 2, _free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("unlearning.run.process.ranks.ARRIVE", timedelta(seconds=1))
    with pytest.raises(ConfigError, match=r"one of 2 by its environment.*srun"):
        Ranks(surroundings())


def test_alone_everything_is_as_if_there_were_no_ranks():
    ranks = Ranks()
    assert ranks.leads and ranks.world == 1 and ranks.share(3) == 3
    with ranks.together():
        pass
    ranks.leave()


SLURM = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({}, None),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}, "LightningEnvironment"),
        ({**SLURM, "SLURM_JOB_NAME": "train"}, "SLURMEnvironment"),
        # `sbatch` without `srun`, and the interactive shell: one process, which starts the others.
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, None),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, None),
        ({"UNLEARNING_SPAWNED": "1", "SLURM_NTASKS": "2"}, "LightningEnvironment"),
    ],
)
def test_who_started_this_process(variables, kind, monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_NTASKS", "UNLEARNING_SPAWNED", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = surroundings()
    assert (None if found is None else type(found).__name__) == kind
    # Lightning's answer to SIGUSR1 would start the same command, which is no resume, once more.
    assert not getattr(found, "auto_requeue", False)


def test_a_slurm_job_that_lightning_refuses(monkeypatch):
    for name in ("LOCAL_RANK", "UNLEARNING_SPAWNED", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    with pytest.raises(ConfigError, match="ntasks-per-node"):
        surroundings()


@pytest.fixture
def ranks_that(monkeypatch, tmp_path):
    """`ranks_that("<Python>")`: what a rank does instead of a run; it sees `rank`."""

    def use(code: str) -> None:
        script = tmp_path / "rank.py"
        lines = f"import os, signal, sys, time\nrank = int(os.environ['RANK'])\n{code}\n"
        script.write_text(lines)
        monkeypatch.setattr("unlearning.run.process.spawn.COMMAND", [sys.executable, str(script)])

    monkeypatch.setattr("unlearning.run.process.spawn.GRACE_SECONDS", 1)
    return use


def test_all_ended_well(ranks_that, tmp_path):
    ranks_that("print('rank', rank, sys.argv[2:])")
    assert spawn(tmp_path, 2, resume=True) == 0
    assert (tmp_path / "logs/rank_1.log").read_text() == "rank 1 ['--resume']\n"


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("raise RuntimeError('out of luck')", "exit code 1"),
    ],
)
def test_a_dead_rank_is_named_and_the_others_end(death, how, ranks_that, tmp_path, capsys):
    ranks_that(f"if rank == 1: {death}\ntime.sleep(10**6)")
    assert spawn(tmp_path, 2, resume=False) == 1  # long before the other rank would end
    told = capsys.readouterr().err
    assert f"rank 1 of 2 died ({how})" in told and f"unlearn resume={tmp_path}" in told
    assert ("out of luck" in told) == ("RuntimeError" in death)


@pytest.mark.parametrize("code", [2, 130, 143])
def test_an_orderly_end_is_passed_on_without_an_obituary(code, ranks_that, tmp_path, capsys):
    ranks_that(f"sys.exit({code})")
    assert spawn(tmp_path, 2, resume=False) == code
    assert "died" not in capsys.readouterr().err


def test_bad_input_that_rank_0_does_not_see_is_shown(ranks_that, tmp_path, capsys):
    code = "print('error: no such GPU', file=sys.stderr)\n    sys.exit(2)"
    ranks_that(f"if rank == 1:\n    {code}\ntime.sleep(300)")
    assert spawn(tmp_path, 2, resume=False) == 1
    assert "error: no such GPU" in capsys.readouterr().err


PARENT = """
import sys
from pathlib import Path
from unlearning.run.process import spawn
spawn.GRACE_SECONDS = 1
spawn.COMMAND = [sys.executable, sys.argv[2]]
sys.exit(spawn.spawn(Path(sys.argv[1]), 2, False))
"""
RANK = """
import os, signal, sys, time
from pathlib import Path
from unlearning.run.process.spawn import live_and_die_with_parent
live_and_die_with_parent()
heard = Path(sys.argv[1]) / f"heard_{os.environ['RANK']}"
def hear(number, frame):
    with heard.open("a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.5)
    sys.exit(128 + number)
signal.signal(signal.SIGINT, hear)
signal.signal(signal.SIGTERM, hear)
(Path(sys.argv[1]) / f"pid_{os.environ['RANK']}").write_text(str(os.getpid()))
time.sleep(300)
"""


@pytest.fixture
def parent(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(tmp_path / "rank.py")]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 300
    while len(pids(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    process.kill()


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid_*") if path.read_text()]


@pytest.mark.ddp
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_rank_once(number, parent, tmp_path):
    parent.send_signal(number)
    assert parent.wait(300) == 128 + number
    for rank in range(2):
        assert (tmp_path / f"heard_{rank}").read_text() == f"{int(number)}\n"


@pytest.mark.ddp
def test_no_rank_outlives_its_parent(parent, tmp_path):
    ranks = pids(tmp_path)
    parent.kill()
    parent.wait(300)
    deadline = time.monotonic() + 300
    while any(map(alive, ranks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, ranks))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
