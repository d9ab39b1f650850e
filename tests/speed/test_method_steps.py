"""The benchmark of the methods' steps runs, and the two steps that it times are the same step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unlearning.run.config.overrides import config_folder

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "methods" / "steps.py"
# No step, that of another method, and the paper's with limits of our own.
LEFT_OUT = {"task_vector", "altpo", "loku", "to_reference", "match_reference"}
OTHER_WEIGHTS = ("_demo", "_real", "_scratch", "_story", "_book")


@pytest.mark.slow
def test_every_methods_step_is_the_plain_one(tmp_path):
    words = ["--shape", "small", "--rounds", "1", "--results", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads((tmp_path / "steps_small.json").read_text())["rows"]
    rows = {row["method"]: row for row in found}
    names = {path.stem for path in (config_folder() / "method").glob("*.yaml")}
    assert set(rows) == {name for name in names if not name.endswith(OTHER_WEIGHTS)} - LEFT_OUT
    for name, row in rows.items():
        assert row["loss_difference"] < 1e-4, name
        assert row["gradient_difference"] < 1e-4, name
        assert f"| `{name}` |" in run.stdout
    assert rows["sam"]["forwards"] == [3, 0] and rows["gru"]["forwards"] == [2, 0]
    assert rows["dpo"]["forwards"] == [1, 1] and rows["dpo"]["plain_forwards"] == [3, 2]
    assert rows["paper"]["reference"] == "cached" and rows["paper"]["plain_forwards"] == [3, 1]
