"""A real run, killed with SIGKILL at 20 random moments and resumed each time, ends bit for bit as
the one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unlearning.checkpoints import by_step, problem

KILLS = 20
HERE = Path(__file__).parent
# Times and memory of a run in several parts are others; everything else is to be the same.
UNLIKE = ("seconds", "peak_memory_mb")
SEED = int(os.environ.get("KILL_SEED", "0"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of both runs, and what was done to them."""
    root = tmp_path_factory.mktemp("killed")
    found = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py"), str(root), str(SEED)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, capture_output=True, timeout=500,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    print(found.stdout)  # pytest shows it where a test fails
    return root, lines


def metrics(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if name not in UNLIKE}


@pytest.mark.slow
def test_it_was_killed_often_and_everywhere(told):
    _, lines = told
    kills = [line for line in lines if line.get("killed")]
    assert len(kills) == KILLS, [line for line in lines if line.get("killed") is False]
    assert len({line["step"] for line in kills}) >= 8
    assert any(not line["step"] for line in kills)  # before the first checkpoint
    assert sum(line["left_half_written"] for line in kills) >= 3
    assert any("unlearned.json" in line["files"] for line in kills)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_wrong(told):
    root, lines = told
    assert lines[-1].get("status", 0) == 0, (root / "killed.log").read_text()[-4000:]
    whole, killed = root / "whole", root / "killed"
    for name in ("losses.csv", "samples.jsonl", "generations.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert metrics(killed) == metrics(whole)
    assert (killed / "report.html").is_file()


@pytest.mark.slow
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(told):
    root, lines = told
    log = (root / "killed.log").read_text()
    spoiled = [line["name"] for line in lines if line["kind"] == "spoiled"]
    assert len(spoiled) == 2
    for name in spoiled:
        assert f"{name} is not whole and was skipped" in log


@pytest.mark.slow
def test_what_is_left_is_whole_and_tidy(told):
    root, _ = told
    for folder in (root / "whole", root / "killed"):
        assert not list(folder.rglob("*.partial")) and not list(folder.rglob(".*"))
        kept = by_step(folder / "checkpoints")
        assert next(iter(kept)) == 40 and all(problem(path) is None for path in kept.values())
    assert [p.name for p in sorted((root / "killed/checkpoints").iterdir())] == [
        p.name for p in sorted((root / "whole/checkpoints").iterdir())
    ]
