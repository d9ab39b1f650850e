"""Whether an answer says what the true answer says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from unlearning.errors import ConfigError
from unlearning.metrics.similarity import rouge_l
from unlearning.metrics.words import split_words

ROUGE_THRESHOLD = 0.7
"""Our own choice: about two thirds of the words, in order, and nearly nothing else. A paraphrase
may fail it and a wrong number in a long sentence may pass, so that it is a measure of *keeping*
an answer (before against after) rather than of truth."""


def is_exact_match(completion: str, target: str) -> bool:
    """The same words in the same order; case, punctuation and white space do not count."""
    words = split_words(completion)
    return bool(words) and words == split_words(target)


def is_right(completion: str, target: str, threshold: float = ROUGE_THRESHOLD) -> bool:
    """ROUGE-L F1 with the true answer reaches the threshold. An answer without words never is."""
    check_threshold(threshold)
    if not split_words(completion):
        return False
    return is_exact_match(completion, target) or rouge_l(completion, target) >= threshold


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that every or no answer reaches."""
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"threshold of a right answer is {threshold}; expected 0 < threshold <= 1, an F1 "
            f"value such as {ROUGE_THRESHOLD}."
        )


class RougeAccuracy(Metric):
    """Shares of right answers and of exact matches, each 0..1; NaN where there was no answer."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    exact: Tensor
    total: Tensor

    def __init__(self, threshold: float = ROUGE_THRESHOLD, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold)
        self.threshold = threshold
        for name in ("right", "exact", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, completions: Sequence[str], targets: Sequence[str]) -> None:
        pairs = list(zip(completions, targets, strict=True))
        self.right += sum(is_right(said, true, self.threshold) for said, true in pairs)
        self.exact += sum(is_exact_match(said, true) for said, true in pairs)
        self.total += len(pairs)

    def compute(self) -> dict[str, Tensor]:
        return {"rouge_accuracy": self.right / self.total, "exact_match": self.exact / self.total}
