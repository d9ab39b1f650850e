"""A real 2 x 2 sweep, killed in the middle and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from sweep.conftest import jobs

COMMAND = [
    sys.executable, "-c",
    "import sys; from unlearning.sweep import multirun; sys.exit(multirun(sys.argv[1:]))",
]  # fmt: skip
HARM = "after.harmful_heldout/harmful_rate"
GRID = [
    "-m", "experiment=demo", "trainer=debug", "objective.forget.weight=0.25,0.5", "seed=0,1",
    "hydra.sweep.dir=grid", "hydra.launcher.n_jobs=2", f"sweep.objectives=[{HARM}]",
]  # fmt: skip


@pytest.mark.slow
def test_killed_and_gone_on_with(tmp_path):
    environment = {**os.environ, "UNLEARNING_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    sweep = subprocess.Popen([*COMMAND, *GRID], cwd=tmp_path, env=environment)
    grid = tmp_path / "grid"
    deadline = time.monotonic() + 300
    # Two are done, or about to be; of the others at least one has begun.
    while not ((grid / "2/config.yaml").is_file() or (grid / "3/config.yaml").is_file()):
        assert sweep.poll() is None and time.monotonic() < deadline, "nothing to kill"
        time.sleep(0.02)
    sweep.kill()
    sweep.wait()
    done = {n: (grid / f"{n}/metrics.json") for n in range(4)}
    stamps = {n: path.stat().st_mtime_ns for n, path in done.items() if path.is_file()}
    assert stamps and len(stamps) < 4

    again = subprocess.run(
        [*COMMAND, "-m", "sweep.resume=grid"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    print(again.stdout)
    assert again.returncode == 0
    assert " goes on: " in again.stdout
    assert all(done[n].stat().st_mtime_ns == stamp for n, stamp in stamps.items())
    for number, job in jobs(grid).items():
        assert job["status"] == "finished" and (grid / f"{number}/report.html").is_file()
        metrics = json.loads(done[number].read_text(encoding="utf-8"))
        assert job["objectives"] == [metrics["after"]["harmful_heldout/harmful_rate"]["value"]]
    losses = [(grid / f"{n}/losses.csv").read_text(encoding="utf-8") for n in range(4)]
    assert len(set(losses)) == 4, "two jobs were the same run"
