"""Which models a page shows, in which order and under which names."""

from __future__ import annotations

import pytest

from unlearning.report.describe import describe
from unlearning.report.stages import stages


@pytest.mark.parametrize(
    ("models", "original", "labels"),
    [
        (["before", "after"], False, ["Before", "After"]),
        (["original", "before", "after"], True, ["Original", "Fine-tuned", "Unlearned"]),
        (
            ["original", "oracle", "before", "after"],
            True,
            ["Original", "Oracle", "Fine-tuned", "Unlearned"],
        ),
        (["oracle", "before", "after"], False, ["Oracle", "Before", "After"]),
        (["one", "two"], False, ["one", "two"]),
    ],
)
def test_models_of_a_run(models, original, labels):
    metrics = {"models": models, "original": {"x/y": {"value": 1.0}} if original else {}}
    assert [stage.label for stage in stages(metrics)] == labels


def test_models_of_an_evaluation_are_named():
    one = {"models": ["model"], "evaluated": {"model": "gpt2"}}
    (stage,) = stages(one)
    assert (stage.label, stage.legend, stage.css) == ("Model", "model: gpt2", "after")
    two = {"models": ["before", "after"], "evaluated": {"before": "a", "after": "b"}}
    assert [stage.legend for stage in stages(two)] == ["before: a", "after: b"]
    assert describe({}, one).title == "Evaluation of gpt2"
    about = describe({"description": "Mine."}, two)
    assert (about.title, about.model) == ("Mine", "a, then b")
    assert describe({}, two).title == "Comparison of a and b"
