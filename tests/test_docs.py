"""The code in the documentation does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from unlearning.losses import TokenLosses
from unlearning.module import UnlearningModule
from unlearning.run.config.build import check_targets
from unlearning.run.config.prompt_sets import SET_KEYS, build_metric

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def written() -> dict[str, Any]:
    """The names that the page on the method defines."""
    (code,) = BLOCK.findall((DOCS / "method.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "written"}
    exec(code, names)
    return names


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


def test_the_page_on_evaluation(evaluation_page):
    """Its metric and its call work; its YAML is a prompt set."""
    names: dict[str, Any] = {}
    for code in BLOCK.findall(evaluation_page):
        exec(code, names)
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", evaluation_page, re.MULTILINE | re.DOTALL)
    settings = OmegaConf.create(yaml)
    facts = settings.prompt_sets.facts
    built = [build_metric(OmegaConf.to_container(facts).pop("metrics")[n], "x") for n in (0, 1)]
    assert [m.name for m in built] == ["choice_accuracy", "choice_accuracy_norm"]
    build_metric(settings.aggregates.utility.metric, "x")
    check_targets(facts.source)
    assert set(facts) | {"kind"} == set(SET_KEYS)


@pytest.fixture
def evaluation_page() -> str:
    return (DOCS / "evaluation.md").read_text(encoding="utf-8")
