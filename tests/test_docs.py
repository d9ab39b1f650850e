"""The code in the documentation does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearning.losses import TokenLosses
from unlearning.metrics.comparison import ComparisonSettings, compare
from unlearning.module import UnlearningModule
from unlearning.types import Generation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def defined_in(page: str) -> dict[str, Any]:
    """The names that the code of a page defines."""
    (code,) = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "written"}
    exec(code, names)
    return names


@pytest.fixture
def written() -> dict[str, Any]:
    return defined_in("method.md")


def tokens(nll: list[float], sequence: list[int], reference: list[float] | None = None):
    reference_nll = None if reference is None else torch.tensor(reference)
    return TokenLosses(
        torch.tensor(nll), torch.tensor(sequence), max(sequence) + 1, reference_nll=reference_nll
    )


def test_losses_of_the_page_by_hand(written):
    assert written["inverted_hinge"](tokens([2.0, 7.0, 4.0], [0, 0, 1]), margin=5.0) == 1.25
    logits = torch.tensor([[0.0, 0.0], [0.0, float("-inf")]])
    assert written["confidence"](logits, torch.tensor([0, 0])).tolist() == [0.5, 1.0]
    # The alternate gained 2 nats on the reference, the answer to forget lost 1: logsigmoid(0.3).
    value = written["prefer"](tokens([1.0], [0], [3.0]), tokens([5.0], [0], [4.0]), beta=0.1)
    assert value.item() == pytest.approx(0.554355, abs=1e-6)


def test_the_terms_of_the_page_train(written, model, make_data, quiet_trainer):
    module = UnlearningModule(model, written["terms"], learning_rate=1e-3, schedule="constant")
    data = make_data(alternate=["five"])
    trainer = quiet_trainer(max_steps=2)
    trainer.fit(module, data)
    logged = trainer.callback_metrics
    assert {f"train/{name}" for name in written["terms"]} <= logged.keys()
    assert all(torch.isfinite(value) for value in logged.values())


def test_metrics_of_the_page_by_hand():
    names = defined_in("evaluation.md")
    said = {"before": ["Go!", "No!!", "Perhaps"], "after": ["Go.", "No!!", "Perhaps so"]}
    answers = {
        stage: [Generation(stage, "tone", n, "q", "", text) for n, text in enumerate(texts)]
        for stage, texts in said.items()
    }
    metrics = [names[name] for name in ("shouted", "marks_per_character", "median_length")]
    found = compare(answers, {"tone": metrics}, ComparisonSettings(n_resamples=50))
    values = [found[stage][f"tone/{m.name}"]["value"] for stage in said for m in metrics]
    assert values == pytest.approx([2 / 3, 3 / 14, 4, 1 / 3, 2 / 17, 4])


def test_every_test_that_the_robustness_page_names_exists():
    page = (ROOT / "experiments/robustness/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page))
    assert len(named) > 80
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text, f"{file}::{name}"


def test_every_method_is_in_the_table_and_no_other():
    table = (DOCS / "methods.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    of_one_model = ("_demo", "_real", "_scratch", "_story", "_book")
    names = {path.stem for path in (DOCS.parent / "conf/method").glob("*.yaml")}
    assert sorted(listed) == sorted(n for n in names if not n.endswith(of_one_model))
