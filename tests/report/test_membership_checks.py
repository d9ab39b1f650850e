"""Whether what was forgotten stands out: the AUC against the model that never saw it."""

from __future__ import annotations

import pytest

from unlearning.report import verdicts

KEY = "aggregates/membership"
FACTS = {"path": "unlearning.metrics.membership.membership_auc", "label": "AUC", "unit": "AUC"}


def put(metrics, auc: dict[str, float], low: float | None, high: float | None, change: str):
    """Writes the AUC of each model, and the interval of its change."""
    metrics.setdefault("metrics", {})["membership"] = FACTS
    for stage, value in auc.items():
        metrics.setdefault(stage, {})[KEY] = {"value": value, "low": 0.0, "high": 1.0, "n": 120}
    difference = auc["after"] - auc["original" if change == "change_from_original" else "before"]
    metrics[change][KEY] = {"value": difference, "low": low, "high": high, "n": 120}


def traces(metrics):
    (found,) = (verdict for verdict in verdicts(metrics) if verdict.name == "traces left")
    return found


@pytest.mark.parametrize(
    ("after", "low", "high", "ok", "words"),
    [
        (0.58, -0.02, 0.25, True, "\N{MINUS SIGN}0.020 to +0.250"),
        (0.83, 0.25, 0.49, False, "still told from answers that were never seen"),
        (0.20, -0.40, -0.12, False, "Forgotten more than never seen"),
        (0.46, None, None, None, "no interval"),
    ],
)
def test_after_a_teaching_it_is_held_to_the_original_model(after, low, high, ok, words, book):
    auc = {"original": 0.46, "before": 1.0, "after": after}
    put(book, auc, low, high, "change_from_original")
    verdict = traces(book)
    assert verdict.ok is ok
    assert words in verdict.sentence and "for the original model" in verdict.sentence


@pytest.mark.parametrize(
    ("after", "low", "high", "ok"),
    [(0.30, -0.35, -0.05, False), (0.50, -0.05, 0.10, True), (0.70, 0.10, 0.30, True)],
)
def test_without_one_only_a_fall_is_judged(after, low, high, ok, metrics):
    put(metrics, {"before": 0.5, "after": after}, low, high, "change")
    verdict = traces(metrics)
    assert verdict.ok is ok
    assert "the model before unlearning" in verdict.sentence


def test_it_is_asked_only_where_it_was_measured(metrics):
    assert "traces left" not in [verdict.name for verdict in verdicts(metrics)]
    metrics["metrics"] = {"membership": FACTS}
    assert "traces left" not in [verdict.name for verdict in verdicts(metrics)]
    put(metrics, {"before": 0.5, "after": 0.5}, -0.1, 0.1, "change")
    metrics["metrics"]["membership"] = {**FACTS, "path": "unlearning.metrics.bleu.bleu"}
    assert "traces left" not in [verdict.name for verdict in verdicts(metrics)]
