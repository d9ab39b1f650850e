from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from unlearning.metrics.aggregate import Aggregate
from unlearning.metrics.comparison import ComparisonSettings, compare
from unlearning.metrics.membership import membership_auc, roc_auc
from unlearning.metrics.perplexity import target_nll
from unlearning.types import Generation

SETS = {"seen": [target_nll], "new": [target_nll]}
MEMBERSHIP = {"membership": Aggregate(membership_auc, ("seen/target_nll", "new/target_nll"))}


def test_the_area_is_that_of_torchmetrics_with_ties():
    generator = np.random.default_rng(0)
    for size in (1, 7, 200):
        low, high = generator.integers(0, 9, size), generator.integers(2, 12, size + 3)
        scores = torch.tensor(np.concatenate([low, high]) / 20)
        labels = torch.tensor([0] * size + [1] * (size + 3))
        assert roc_auc(low, high) == pytest.approx(float(binary_auroc(scores, labels)))


def test_the_area_by_hand():
    assert roc_auc([1, 2], [3, 4]) == 1
    assert roc_auc([3, 4], [1, 2]) == 0
    assert roc_auc([1, 4], [2, 3]) == 0.5
    assert math.isnan(roc_auc([], [1])) and math.isnan(roc_auc([1], [math.nan]))


def _answers(stage: str, **nll: list[float]) -> list[Generation]:
    """Answers whose mean token NLL is given; longer ones do not weigh more."""
    return [
        Generation(stage, name, i, f"{name} {i}", "t", "c", target_nll=value * (i + 1),
                   target_tokens=i + 1)
        for name, values in nll.items()
        for i, value in enumerate(values)
    ]  # fmt: skip


def test_an_aggregate_of_two_sets_with_a_paired_interval():
    generator = np.random.default_rng(0)
    new = generator.normal(3, 1, 60).clip(0.1)
    known, same = generator.normal(2, 1, 40).clip(0.1), generator.normal(3, 1, 40).clip(0.1)
    answers = {
        "before": _answers("before", seen=known.tolist(), new=new.tolist()),
        "after": _answers("after", seen=same.tolist(), new=new.tolist()),
    }
    found = compare(answers, SETS, ComparisonSettings(n_resamples=300), MEMBERSHIP)
    pairs = [float(n > k) for n in new for k in known]
    before, after = (found[m]["aggregates/membership"] for m in ("before", "after"))
    assert before["value"] == pytest.approx(np.mean(pairs))
    assert before["value"] > 0.7 and before["low"] > 0.5  # what was seen is known
    assert after["low"] < 0.5 < after["high"]  # and then no longer
    assert (before["method"], before["n"]) == ("bootstrap", 100)
    change = found["change"]["aggregates/membership"]
    assert change["value"] == pytest.approx(after["value"] - before["value"])
    assert change["low"] < change["value"] < change["high"] < 0
    assert found["metrics"]["membership"]["unit"] == "AUC"


def test_the_same_prompts_are_drawn_for_both_models():
    new, seen = [3.0, 1.0, 2.5, 4.0, 2.0], [2.2, 1.4, 3.1, 0.6]
    answers = {s: _answers(s, seen=seen, new=new) for s in ("before", "after")}
    found = compare(answers, SETS, ComparisonSettings(n_resamples=50), MEMBERSHIP)
    change = found["change"]["aggregates/membership"]
    assert (change["value"], change["low"]) == (0, None)  # no resample differs


def test_a_loss_that_is_not_finite_leaves_it_undefined():
    answers = {"model": _answers("model", seen=[1.0, math.inf], new=[2.0, 3.0])}
    found = compare(answers, SETS, ComparisonSettings(n_resamples=50), MEMBERSHIP)
    assert found["model"]["aggregates/membership"]["value"] is None
