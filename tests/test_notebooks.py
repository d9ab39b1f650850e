"""The notebooks' code runs from top to bottom, with a few steps in place of hundreds."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SHORT = {
    "harmful": ("BASE_STEPS, UNLEARN_STEPS = 700, 150", "BASE_STEPS, UNLEARN_STEPS = 3, 2"),
    "copyright": (
        "BASE_STEPS, FINETUNE_EPOCHS, UNLEARN_STEPS = 140, 32, 120",
        "BASE_STEPS, FINETUNE_EPOCHS, UNLEARN_STEPS = 3, 1, 2",
    ),
    "real": (
        "BASE_STEPS, TEACH_EPOCHS, UNLEARN_STEPS = 300, 20, 100",
        "BASE_STEPS, TEACH_EPOCHS, UNLEARN_STEPS = 20, 1, 2",
    ),
}
ANSWERS = {"harmful": 8, "copyright": 16, "real": 48}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, capsys, monkeypatch):
    """With UNLEARNING_MODELS and UNLEARNING_DATA `real.ipynb` is on SmolLM2, some minutes long."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    long, short = SHORT[path.stem]
    assert long in code, f"{path.name} no longer says {long!r}"
    code = code.replace(long, short)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a reader sees, too
        namespace: dict[str, object] = {}
        exec(compile(code, str(path), "exec"), namespace)
    assert "after:" in capsys.readouterr().out
    assert [g.stage for g in namespace["after"]] == ["after"] * ANSWERS[path.stem]  # type: ignore[attr-defined]
