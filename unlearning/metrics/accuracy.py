"""Accuracy of answers: exact match, and ROUGE-L above a threshold."""

from __future__ import annotations

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Answers, metric
from unlearning.metrics.rates import Rate, rate
from unlearning.metrics.similarity import rouge_l
from unlearning.metrics.words import split_words

ROUGE_THRESHOLD = 0.7
"""Our own choice: about two thirds of the words, in order, and nearly nothing else. A paraphrase
may fail it and a wrong number in a long sentence may pass, so that it is a measure of *keeping*
an answer (before against after) rather than of truth."""


def is_exact_match(completion: str, target: str) -> bool:
    """Whether two texts have the same words in the same order; case, punctuation and white space
    do not count."""
    words = split_words(completion)
    return bool(words) and words == split_words(target)


def is_right(completion: str, target: str, threshold: float = ROUGE_THRESHOLD) -> bool:
    """Whether the ROUGE-L F1 with the target reaches the threshold. An answer without words
    never is right."""
    check_threshold(threshold)
    if not split_words(completion):
        return False
    return is_exact_match(completion, target) or rouge_l(completion, target) >= threshold


def check_threshold(threshold: float) -> None:
    """Raises a ConfigError for a threshold that every or no answer reaches."""
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"threshold of a right answer is {threshold}; expected 0 < threshold <= 1, an F1 "
            f"value such as {ROUGE_THRESHOLD}."
        )


@metric("Right answers", unit="fraction", direction="higher")
def rouge_accuracy(answers: Answers, rouge_threshold: float = ROUGE_THRESHOLD) -> Rate | None:
    """Share of the answers whose ROUGE-L with the target reaches the threshold. Over prompts
    with a target."""
    right = [is_right(g.completion, g.target, rouge_threshold) for g in answers]
    return _of_asked(right, answers)


@metric("Exact matches", unit="fraction", direction="higher")
def exact_match(answers: Answers) -> Rate | None:
    """Share of the answers with exactly the target's words. Over prompts that have a target."""
    return _of_asked([is_exact_match(g.completion, g.target) for g in answers], answers)


@metric(
    "Right before and still right", unit="fraction", direction="higher", against="previous",
    of_itself=1.0,
)  # fmt: skip
def kept_right(
    answers: Answers, before: Answers, rouge_threshold: float = ROUGE_THRESHOLD
) -> Rate | None:
    """Share of the prompts answered correctly before that still are."""
    was, still = (
        np.array([is_right(g.completion, g.target, rouge_threshold) for g in side], dtype=bool)
        for side in (before, answers)
    )
    asked = np.array([bool(split_words(g.target)) for g in answers])
    return rate(still, where=was & asked) if asked.any() else None


def _of_asked(right: list[bool], answers: Answers) -> Rate | None:
    """Returns the rate over prompts that have a target."""
    asked = [bool(split_words(g.target)) for g in answers]
    return rate(right, where=asked) if any(asked) else None
