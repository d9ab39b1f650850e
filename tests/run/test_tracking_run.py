"""A whole run with a key in the environment, and nothing of it anywhere afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .small import SMALL
from .wandb_files import offline_parts

KEYS = {
    "WANDB_API_KEY": "plantedwandbplantedwandbplantedwandbplanted",
    "HF_TOKEN": "hf_plantedhubplantedhubplantedhubplanted",
}
COMMAND = [sys.executable, "-m", "unlearning.cli", "experiment=demo", "trainer=debug", *SMALL]
pytestmark = pytest.mark.slow


def call(tmp_path, *arguments):
    kept = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
    environment = {
        **kept, **KEYS, "WANDB_MODE": "offline", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
        "UNLEARNING_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf"),
        "TMPDIR": str(tmp_path / "tmp"),
    }  # fmt: skip
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, text=True, capture_output=True,
        timeout=600,
    )  # fmt: skip


def holding(tmp_path):
    """Files that hold a key, the binary ones too."""
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return [p for p in files if any(key.encode() in p.read_bytes() for key in KEYS.values())]


def test_no_key_is_in_anything_that_was_written(tmp_path):
    # Uncommitted changes of a checkout are the user's, and no business of a tracker's.
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "notes").write_text("mine\n")
    subprocess.run([*git, "add", "notes"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "x"], cwd=tmp_path, check=True)
    (tmp_path / "notes").write_text(KEYS["WANDB_API_KEY"])

    result = call(
        tmp_path, "logger=[wandb,csv,tensorboard]", "trainer.log_every_n_steps=1",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    run = tmp_path / "run"
    assert (run / "report.html").is_file()
    assert holding(tmp_path) == [tmp_path / "notes"]
    assert not any(key in result.stdout + result.stderr for key in KEYS.values())

    [main] = offline_parts(run)
    assert main.exit_code == 0
    assert main.run.run_group == "run" and main.config["objective"]["forget"]["weight"] == 0.25
    logged = {key for row in main.history for key in row}
    assert {"train/forget", "train/retain"} <= logged
    assert {"lr-AdamW", "base/lr-AdamW", "classifier/lr-AdamW/pg1"} <= logged
    assert len(main.summary) < 100
    assert {"classifier", "base"} <= {key.partition("/")[0] for key in logged}
    assert "after.harmful_heldout/harmful_rate.value" in main.summary
    assert {"report", "run_table"} <= {artifact.type for artifact in main.of("artifact")}
    assert (run / "csv/unlearn/metrics.csv").is_file()
    assert (run / "csv/scores/metrics.csv").is_file()
    assert list((run / "tensorboard/unlearn").iterdir())


@pytest.mark.parametrize("name", ["+logger.wandb.api_key", "description"])
def test_a_key_in_an_override_is_refused_before_anything_is_written(name, tmp_path):
    key = KEYS["WANDB_API_KEY"]
    for sweep in ([], ["-m"]):
        result = call(tmp_path, *sweep, "logger=wandb", f"{name}={key}")
        assert result.returncode == 2 and key not in result.stdout + result.stderr
        assert f"error: {name.lstrip('+')} holds what looks like a key" in result.stderr
    assert holding(tmp_path) == [] and not (tmp_path / "runs").exists()
