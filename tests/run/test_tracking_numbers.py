"""Numbers by name, and answers side by side."""

from __future__ import annotations

import math

from unlearning.run.tracking.numbers import TABLE_COLUMNS, answer_rows, core, scalars, summary
from unlearning.types import Generation


def test_scalars_are_named_by_their_path():
    metrics = {
        "after": {"related/perplexity": {"value": 3.5, "n": 4, "low": math.nan, "high": math.inf}},
        "steps": 3, "reached": True, "stop_reason": None, "notes": ["x"], "reference": "Cached",
        "versions": {"python": "3"},
    }  # fmt: skip
    assert scalars(metrics) == {
        "after.related/perplexity.value": 3.5, "after.related/perplexity.n": 4, "steps": 3,
        "reached": True,
    }  # fmt: skip
    assert summary(metrics) == {**scalars(metrics), "reference": "Cached"}
    assert scalars(2.0) == {} and scalars({}) == {}


def test_the_core_is_what_reports_put_in_front():
    def figures(value):
        return {
            f"kept/{name}": {"value": value, "low": 0.0, "high": 9.0, "n": 4}
            for name in ("perplexity", "rouge_accuracy", "broken_rate")
        }

    metrics = {
        "models": ["before", "after"],
        "before": figures(3.0), "after": figures(3.5), "change": figures(0.5),
        "prompt_sets": {"kept": {"kind": "retain", "split": "test", "front": ["perplexity"]}},
        "classifier": {"accuracy": 0.97, "f1": 0.96, "reliability": [[1, 2]], "recall": 0.9},
        "seconds": {"unlearn": 3.0}, "steps": 20, "kept_steps": 9, "stop_reason": "the guard",
        "notes": ["x"], "reference": "Cached",
    }  # fmt: skip
    found = core(metrics)
    assert found.pop("checks") == 4
    assert 0 <= found.pop("checks_passed") <= 4
    assert found == {
        "after.kept/perplexity.value": 3.5, "change.kept/perplexity.value": 0.5,
        "classifier.accuracy": 0.97, "classifier.f1": 0.96,
        "steps": 20, "kept_steps": 9, "stop_reason": "the guard", "reference": "Cached",
    }  # fmt: skip
    assert found.items() <= summary(metrics).items(), "names are those of metrics.json"
    # A model as it is, with a set that puts nothing in front, and a figure without an interval.
    plain = {"models": ["model"], "model": {"mine/score": 0.5}, "evaluated": {"model": "x"}}
    assert core(plain) == {"model.mine/score.value": 0.5}


def test_answers_are_paired_by_prompt():
    def said(stage, index, text, harm):
        return Generation(stage, "s", index, f"p{index}", "r", text, harm_probability=harm)

    before = [said("before", 0, "a", 0.9), said("before", 1, "b", None)]
    after = [said("after", 1, "d", 0.1)]
    rows = [dict(zip(TABLE_COLUMNS, row, strict=True)) for row in answer_rows(before, after)]
    assert [(r["prompt"], r["before"], r["after"]) for r in rows] == [
        ("p0", "a", None),
        ("p1", "b", "d"),
    ]
    assert [(r["harm_before"], r["harm_after"]) for r in rows] == [(0.9, None), (None, 0.1)]
