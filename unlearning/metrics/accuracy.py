"""Accuracy of answers: exact match, and ROUGE-L above a threshold."""

from __future__ import annotations

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Answers, metric
from unlearning.metrics.similarity import rouge_l
from unlearning.metrics.statistic import Sums, mean, share
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
def rouge_accuracy(answers: Answers, rouge_threshold: float = ROUGE_THRESHOLD) -> Sums | None:
    """Share of the answers whose ROUGE-L with the target reaches the threshold. Over prompts
    with a target."""
    asked = [g for g in answers if split_words(g.target)]
    right = [is_right(g.completion, g.target, rouge_threshold) for g in asked]
    return mean(right) if asked else None


@metric("Exact matches", unit="fraction", direction="higher")
def exact_match(answers: Answers) -> Sums | None:
    """Share of the answers with exactly the target's words. Over prompts that have a target."""
    asked = [g for g in answers if split_words(g.target)]
    return mean([is_exact_match(g.completion, g.target) for g in asked]) if asked else None


@metric(
    "Right before and still right", unit="fraction", direction="higher", against="previous",
    of_itself=1.0,
)  # fmt: skip
def kept_right(
    answers: Answers, before: Answers, rouge_threshold: float = ROUGE_THRESHOLD
) -> Sums | None:
    """Share of the prompts answered correctly before that still are."""
    pairs = [(g, old) for g, old in zip(answers, before, strict=True) if split_words(g.target)]
    was, still = (
        np.array([is_right(pair[i].completion, pair[i].target, rouge_threshold) for pair in pairs])
        for i in (1, 0)
    )
    return share(was * still, was) if pairs else None
