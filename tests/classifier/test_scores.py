from __future__ import annotations

import json

import pytest
import torch
from sklearn import metrics as sklearn

from unlearning.classifier import HarmScores, harm_scores
from unlearning.classifier.scores import binary_scores

LABELS = ("toxic", "threat")


@pytest.fixture
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(300, 2, generator=generator) < 0.3).float()
    noise = torch.randn(300, 2, generator=generator)
    return (targets * 2 - 1 + noise).sigmoid(), targets


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_scores_agree_with_scikit_learn(predictions, threshold):
    probabilities, targets = predictions
    scores = harm_scores(probabilities, targets, LABELS, threshold)
    questions = {
        "toxic": (probabilities[:, 0], targets[:, 0], scores["labels"]["toxic"]),
        "threat": (probabilities[:, 1], targets[:, 1], scores["labels"]["threat"]),
        "any": (probabilities.max(1).values, targets.max(1).values, scores["any"]),
    }
    for p, y, found in questions.values():
        says = p > threshold
        expected = {
            "accuracy": sklearn.accuracy_score(y, says),
            "precision": sklearn.precision_score(y, says),
            "recall": sklearn.recall_score(y, says),
            "f1": sklearn.f1_score(y, says),
            "roc_auc": sklearn.roc_auc_score(y, p),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert (found["examples"], found["positives"]) == (300, int(y.sum()))


def test_calibration_by_hand():
    # Bin 0.2..0.3: three at 0.25, one true; bin 0.9..1: one at 1.0, true; two at 0.95, one true.
    probabilities = torch.tensor([0.25, 0.25, 0.25, 1.0, 0.95, 0.95])
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    low, high = binary_scores(probabilities, targets, 0.5)["reliability"]
    assert (low["low"], low["high"], low["count"]) == (0.2, 0.3, 3)
    assert (low["predicted"], low["observed"]) == pytest.approx((0.25, 1 / 3))
    assert (high["low"], high["high"], high["count"]) == (0.9, 1.0, 3)
    assert (high["predicted"], high["observed"]) == pytest.approx((2.9 / 3, 2 / 3))


def test_expected_calibration_error_is_the_weighted_gap_of_the_bins(predictions):
    probabilities, targets = predictions
    scores = binary_scores(probabilities[:, 0], targets[:, 0], 0.5)
    gaps = [b["count"] / 300 * abs(b["predicted"] - b["observed"]) for b in scores["reliability"]]
    assert scores["expected_calibration_error"] == pytest.approx(sum(gaps), abs=1e-6)


def test_probability_at_the_threshold_does_not_exceed_it():
    scores = binary_scores(torch.tensor([0.5, 0.75]), torch.tensor([1.0, 1.0]), 0.5)
    assert scores["recall"] == 0.5


def test_missing_class_has_no_roc_auc_and_is_still_valid_json():
    scores = harm_scores(torch.tensor([[0.1], [0.2]]), torch.zeros(2, 1), ("toxic",))
    assert scores["any"]["roc_auc"] is None
    assert scores["any"]["accuracy"] == 1.0
    assert scores["any"]["positives"] == 0
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_diverged_classifier_is_an_error():
    probabilities = torch.tensor([[0.1], [float("nan")]])
    with pytest.raises(ValueError, match="1 of 2 comments"):
        harm_scores(probabilities, torch.zeros(2, 1), ("toxic",))


def test_metric_over_batches_equals_one_call_and_counts_repeated_rows_once(predictions):
    probabilities, targets = predictions
    metric = HarmScores(LABELS, threshold=0.4)
    index = torch.arange(300)
    for rows in (index[:7], index[7:250], index[240:]):  # ten rows come twice
        metric.update(probabilities[rows], targets[rows], rows)
    expected = harm_scores(probabilities, targets, LABELS, 0.4)
    found = metric.compute()
    assert found["any"]["examples"] == 300
    for name in ("accuracy", "precision", "recall", "f1", "roc_auc"):
        assert found["any"][name] == pytest.approx(expected["any"][name], abs=1e-6)
