"""A small run folder, and a parser that reads the page as a browser would."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from .book import BOOK_CONFIG, BOOK_LOSSES, book_metrics, book_rows

CONFIG = """\
name: demo
description: Mildly harmful advice.
data:
  forget: {_target_: unlearning.data.PKUDataModule, source: PKU-Alignment/PKU-SafeRLHF}
  retain: {_target_: unlearning.data.SyntheticDataModule, part: everyday}
model: {name_or_path: facebook/opt-1.3b, lora: {r: 16}}
objective:
  forget: {loss: unlearning.losses.bounded_ascent, weight: 0.5, options: {cap: 10.0}}
  retain: {loss: unlearning.losses.kl_to_reference, weight: 1.0}
unlearn: {learning_rate: 2.0e-06, optimizer: adamw, reference: cached, batch_size: 2}
classifier: {lr: 5.0e-05}
"""


def estimate(value: float, low: float, high: float, n: int = 50) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": n}


@pytest.fixture
def metrics() -> dict[str, Any]:
    """A run that passes every check."""
    return {
        "before": {
            "harmful_heldout/harmful_rate": estimate(0.8125, 0.7, 0.9),
            "harmful_heldout/broken_rate": estimate(0.01, 0.0, 0.03),
            "retain_heldout/perplexity": estimate(4.2137, 4.0, 4.4),
            "retain_heldout/bleu_to_original": estimate(100.0, 100.0, 100.0),
            "retain_heldout/broken_rate": estimate(0.0, 0.0, 0.0),
            "related/broken_rate": estimate(0.0, 0.0, 0.0),
            "related/exact_match": None,
        },
        "after": {
            "harmful_heldout/harmful_rate": estimate(0.0625, 0.0, 0.125),
            "harmful_heldout/broken_rate": estimate(0.02, 0.0, 0.05),
            "retain_heldout/perplexity": estimate(4.3, 4.1, 4.5),
            "retain_heldout/bleu_to_original": estimate(88.5, 84.0, 92.0),
            "retain_heldout/broken_rate": estimate(0.015, 0.0, 0.04),
            "related/broken_rate": estimate(0.012, 0.0, 0.04),
            "related/kept_right": estimate(0.91, 0.84, 0.97, 44),
            "harmful_heldout/effectiveness": estimate(92.3, 84.6, 100.0),
        },
        "change": {
            "harmful_heldout/harmful_rate": estimate(-0.75, -0.85, -0.65),
            "harmful_heldout/broken_rate": estimate(0.011, -0.01, 0.03),
            "retain_heldout/perplexity_relative": estimate(2.048, -0.5, 4.6),
            "retain_heldout/broken_rate": estimate(0.016, -0.01, 0.04),
            "related/broken_rate": estimate(0.013, -0.01, 0.04),
            "related/kept_right": estimate(-0.09, -0.16, -0.03, 44),  # less than all of them
        },
        "steps": 1000,
        "seconds": {"classifier": 41.2, "unlearn": 83.0, "report": None},
        "peak_memory_mb": 1834.2,
        "fingerprints": {"forget": "9f2c41d0", "retain": {"train": "77ac90ee"}},
        "versions": {"torch": "2.13.0"},
        "prompt_sets": {
            "harmful_heldout": "harmful",
            "retain_heldout": "retain",
            "related": "related",
        },
        "classifier": {"accuracy": 0.9813, "f1": 0.977, "roc_auc": None, "threshold": 0.5},
        "stop_reason": None,
    }


def generation(stage: str, prompt_set: str, index: int, completion: str, **more: Any) -> str:
    row = {
        "stage": stage,
        "prompt_set": prompt_set,
        "index": index,
        "prompt": f"prompt {index} of {prompt_set}",
        "target": "the answer in the data",
        "completion": completion,
        "finished": True,
        "harm_probability": 0.97 if (stage, prompt_set[:3]) == ("before", "har") else 0.02,
    }
    return json.dumps({**row, **more})


GENERATIONS = [
    generation(stage, prompt_set, index, f"{stage} answer {index} of {prompt_set}")
    for prompt_set in ("harmful_heldout", "retain_heldout")
    for index in range(30)
    for stage in ("before", "after")
]

LOSSES = """\
epoch,step,lr-AdamW,train/forget,train/forget_weighted,train/retain,train/retain_weighted,train/total,harm/rate
0,0,,-1.0,-0.5,0.0,0.0,-0.5,
,0,0.0002,,,,,,
0,1,,-3.0,-1.5,0.25,0.25,-1.25,0.5
0,2,,-inf,-inf,nan,nan,nan,
"""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(
        metrics: Any,
        config: str | None = CONFIG,
        generations: list[str] | None = GENERATIONS,
        losses: str | None = LOSSES,
    ) -> Path:
        (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        contents = {
            "config.yaml": config,
            "generations.jsonl": None if generations is None else "\n".join(generations) + "\n",
            "losses.csv": losses,
        }
        for name, text in contents.items():
            if text is not None:
                (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


class Page(HTMLParser):
    """Elements with their attributes, all text, and the text that each class of element holds."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.values: list[float] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "unclosed elements"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "data":
            self.values.append(float(dict(attrs)["value"] or "nan"))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def with_class(self, name: str) -> list[tuple[str, dict[str, str]]]:
        return [e for e in self.elements if name in e[1].get("class", "").split()]


@pytest.fixture
def parse() -> type[Page]:
    return Page


@pytest.fixture
def config() -> dict[str, Any]:
    parsed = yaml.safe_load(CONFIG)
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def book() -> dict[str, Any]:
    """The metrics of a run with a book that passes every check."""
    return book_metrics()


@pytest.fixture
def book_config() -> dict[str, Any]:
    parsed = yaml.safe_load(BOOK_CONFIG)
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def make_book_run(make_run: Callable[..., Path]) -> Callable[[Any], Path]:
    def make(metrics: Any) -> Path:
        return make_run(metrics, BOOK_CONFIG, book_rows(), BOOK_LOSSES)

    return make
