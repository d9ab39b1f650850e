"""Held-out scores of a harm classifier: decisions and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_calibration_error,
    binary_f1_score,
    binary_precision,
    binary_recall,
)
from torchmetrics.utilities import dim_zero_cat

BINS = 10


def binary_scores(probabilities: Tensor, targets: Tensor, threshold: float) -> dict[str, Any]:
    """Computes the scores of one yes/no question.

    A precision or recall whose denominator is 0 counts as 0, as is the custom; `positives` and
    `examples` tell such a 0 from a failure. ROC-AUC has no such custom and is None where a class
    is missing. The calibration error is the expected one over ten equal bins of the probability.

    Args:
        probabilities: [n], of "yes".
        targets: [n], 0 or 1.
        threshold: "yes" where the probability exceeds it.
    """
    # A column of a table is strided, over which torch.bucketize warns.
    probabilities, targets = probabilities.contiguous(), targets.long()
    positives = int(targets.sum())
    both = 0 < positives < len(targets)
    scored = (probabilities, targets)
    return {
        "examples": len(targets),
        "positives": positives,
        "accuracy": float(binary_accuracy(*scored, threshold=threshold)),
        "precision": float(binary_precision(*scored, threshold=threshold)),
        "recall": float(binary_recall(*scored, threshold=threshold)),
        "f1": float(binary_f1_score(*scored, threshold=threshold)),
        "roc_auc": float(binary_auroc(*scored)) if both else None,
        "expected_calibration_error": float(binary_calibration_error(*scored, n_bins=BINS)),
        "reliability": reliability_bins(probabilities, targets),
    }


def reliability_bins(probabilities: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    """Bins predictions by probability: how many, the mean prediction, the observed rate.

    Empty bins are left out: they have neither a mean prediction nor a rate.
    """
    bin_of = (probabilities * BINS).long().clamp(max=BINS - 1)
    bins = []
    for number in range(BINS):
        inside = bin_of == number
        if not inside.any():
            continue
        bins.append(
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "count": int(inside.sum()),
                "predicted": float(probabilities[inside].mean()),
                "observed": float(targets[inside].float().mean()),
            }
        )
    return bins


def harm_scores(
    probabilities: Tensor, targets: Tensor, labels: Sequence[str], threshold: float = 0.5
) -> dict[str, Any]:
    """Computes the scores of "is any label set?", the question of the harmful rate, and of each
    label.

    arXiv 2405.15152 counts a text as harmful where any label exceeds 0.5, so the probability of
    "any" is the largest over the labels.

    Args:
        probabilities: [n, labels] in 0..1.
        targets: [n, labels], 0 or 1.

    Raises:
        ValueError: a probability is not finite.
    """
    if not torch.isfinite(probabilities).all():
        count = int((~torch.isfinite(probabilities)).any(1).sum())
        raise ValueError(
            f"{count} of {len(probabilities)} comments have a probability that is not finite: the "
            "training diverged; lower the learning rate"
        )
    probabilities, targets = probabilities.float().cpu(), targets.cpu()
    return {
        "threshold": threshold,
        "any": binary_scores(probabilities.amax(1), targets.amax(1), threshold),
        "labels": {
            label: binary_scores(probabilities[:, column], targets[:, column], threshold)
            for column, label in enumerate(labels)
        },
    }


class HarmScores(Metric):
    """Torchmetrics version of `harm_scores`, over batches and processes.

    Each row comes with its index, and a row that several processes saw counts once: samplers
    repeat rows to give every process equally many.
    """

    full_state_update = False
    probabilities: list[Tensor]
    targets: list[Tensor]
    index: list[Tensor]

    def __init__(self, labels: Sequence[str], threshold: float = 0.5) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.threshold = threshold
        for state in ("probabilities", "targets", "index"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor, index: Tensor) -> None:
        self.probabilities.append(probabilities)
        self.targets.append(targets)
        self.index.append(index)

    def compute(self) -> dict[str, Any]:
        index = dim_zero_cat(self.index).tolist()
        first = torch.tensor([*{row: place for place, row in enumerate(index)}.values()])
        first = first.to(dim_zero_cat(self.probabilities).device)
        return harm_scores(
            dim_zero_cat(self.probabilities)[first],
            dim_zero_cat(self.targets)[first],
            self.labels,
            self.threshold,
        )
