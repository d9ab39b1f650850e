"""What is imported before a run starts: nothing that the command does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HYDRA = {"hydra", "omegaconf", "antlr4"}
HEAVY = {
    "torch", "transformers", "lightning", "datasets", "peft", "torchmetrics", "wandb", "matplotlib",
    "numpy", "scipy", "sklearn", "pandas", "optuna", "sqlalchemy", "submitit",
}  # fmt: skip

CODE = """
import sys
from unlearning.cli import main
try:
    main()
finally:
    print("\\nIMPORTED", *{name.partition(".")[0] for name in sys.modules})
"""


def called(arguments, folder):
    """What the command prints, and the packages that it imported."""
    environment = {**os.environ, "UNLEARNING_CACHE": str(folder / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=folder, env=environment, text=True, capture_output=True, check=True,
    )  # fmt: skip
    said, _, imported = result.stdout.rpartition("\nIMPORTED ")
    return said, set(imported.split())


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_need_no_hydra(arguments, tmp_path):
    said, imported = called(arguments, tmp_path)
    assert "unlearn" in said
    assert not imported & (HEAVY | HYDRA)


def test_help_is_what_hydra_would_say(tmp_path):
    ours, _ = called(["--help"], tmp_path)
    hydras, imported = called(["--help", "seed=0"], tmp_path)
    assert "hydra" in imported and not imported & HEAVY
    assert ours == hydras
    assert "\nexperiment: " in ours and "\nmodel: " in ours and "\nhydra/" not in ours


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["experiment=demo", "--cfg", "job"]])
def test_a_configuration_is_shown_without_what_a_run_needs(arguments, tmp_path):
    said, imported = called(arguments, tmp_path)
    assert "objective:" in said and ("name: demo" in said) == (len(arguments) == 3)
    assert not imported & HEAVY


def test_a_mistake_is_named_without_what_a_run_needs(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        called(["experiment=demo", "objective.forget.wieght=1"], tmp_path)
    assert failed.value.returncode == 2
    assert not set(failed.value.stdout.rpartition("\nIMPORTED ")[2].split()) & HEAVY


def test_a_report_is_written_without_torch_or_hydra(tmp_path):
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 20}
    metrics = {
        "before": {"harmful_heldout/harmful_rate": score},
        "after": {"harmful_heldout/harmful_rate": score},
        "change": {"harmful_heldout/harmful_rate": score},
        "prompt_sets": {"harmful_heldout": "harmful"},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "config.yaml").write_text("name: demo\nseed: 0\n")
    (tmp_path / "losses.csv").write_text("epoch,step,train/total\n0,0,1.0\n0,1,0.5\n")
    said, imported = called(["report", str(tmp_path)], tmp_path)
    assert said.strip() == str(tmp_path / "report.html")
    assert "harmful_heldout" in (tmp_path / "report.html").read_text()
    assert not imported & (HEAVY | HYDRA)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_while_a_block_imports(enabled):
    code = f"""
import gc
from unlearning.run.importing import uncollected
gc.{"enable" if enabled else "disable"}()
try:
    with uncollected():
        assert not gc.isenabled()
        raise ImportError
except ImportError:
    assert gc.isenabled() is {enabled} and gc.get_freeze_count()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
