"""The benchmark runs, with nothing but torch, transformers, lightning and peft beside us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).parents[2] / "experiments" / "speed"
LAUNCH = """
import runpy, sys
for name in ("hydra", "omegaconf", "datasets", "evaluate", "wandb", "sacrebleu"):
    sys.modules[name] = None  # an import of it fails
sys.path.insert(0, {folder!r})
sys.argv = [{script!r}, *{arguments!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_the_benchmark_in_tiny_sizes(tmp_path):
    launch = LAUNCH.format(
        folder=str(SPEED), script=str(SPEED / "bench.py"),
        arguments=["--quick", "--results", str(tmp_path)],
    )  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", launch], capture_output=True, text=True, cwd=SPEED.parents[1]
    )
    assert run.returncode == 0, run.stderr[-2000:]
    (row,) = json.loads((tmp_path / "bench_cpu_quick.json").read_text())["rows"]
    # The two steps that are compared are the same step.
    assert row["gradient_difference"] < 1e-5 and row["loss_difference"] < 1e-5
    assert row["least_gflop"] < row["gflop"] < row["textbook_gflop"]
    assert row["memory_mib"] < row["textbook_memory_mib"]
    assert "full, tree, cached" in run.stdout
