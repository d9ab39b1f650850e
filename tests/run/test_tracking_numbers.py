"""Numbers by name, and answers side by side."""

from __future__ import annotations

import math

from unlearning.run.tracking.numbers import TABLE_COLUMNS, answer_rows, scalars, summary
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
