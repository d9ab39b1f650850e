"""Multiple-choice accuracy by likelihood.

The end token is left out of a choice's likelihood, and lengths are of the choice's own text, as
lm-evaluation-harness counts `acc` and `acc_norm`.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Answers, metric
from unlearning.metrics.rates import Rate, rate
from unlearning.types import AlternativeScore, Generation

Length = Literal["characters", "bytes", "tokens"]
CHOICES = "choices"


@metric("Right choices", unit="fraction", direction="higher", needs=("alternatives",))
def choice_accuracy(answers: Answers) -> Rate | None:
    """Share of prompts whose correct choice is the likeliest. Over prompts that have choices."""
    return _accuracy(answers)


@metric(
    "Right choices, by likelihood per length", unit="fraction", direction="higher",
    needs=("alternatives",),
)  # fmt: skip
def choice_accuracy_norm(answers: Answers, length: Length = "characters") -> Rate | None:
    """Share of prompts whose correct choice is the likeliest per length.

    Args:
        length: `characters` (`acc_norm` of lm-evaluation-harness), `bytes` of UTF-8, or `tokens`.
    """
    if length not in get_args(Length):
        raise ConfigError(f"length is {length!r}; expected one of {', '.join(get_args(Length))}.")
    return _accuracy(answers, length)


def chosen(generation: Generation, length: Length | None = None) -> int:
    """Returns the number of the likeliest choice; the first of equals."""
    choices = generation.alternatives[CHOICES]
    nll = np.array([score.nll - score.end_nll for score in choices])
    sizes = np.array([1 if length is None else _length(score, length) for score in choices])
    return int(np.argmin(nll / np.maximum(sizes, 1)))


def _accuracy(answers: Answers, length: Length | None = None) -> Rate | None:
    asked = [bool(g.alternatives.get(CHOICES)) for g in answers]
    right = [_right(g, length) if has else 0.0 for g, has in zip(answers, asked, strict=True)]
    return rate(right, where=asked) if any(asked) else None


def _right(generation: Generation, length: Length | None = None) -> float:
    """1 or 0; NaN where a choice's likelihood is not finite, as a broken model's is not."""
    scores = generation.alternatives[CHOICES]
    if not all(math.isfinite(score.nll - score.end_nll) for score in scores):
        return math.nan
    return float(chosen(generation, length) == label_of(generation))


def label_of(generation: Generation) -> int:
    """Returns the number of the correct choice.

    Raises:
        ConfigError: it is not known.
    """
    count = len(generation.alternatives[CHOICES])
    if generation.label is None or not 0 <= generation.label < count:
        raise ConfigError(
            f"prompt {generation.index} of {generation.prompt_set} has label {generation.label} "
            f"and {count} choices; expected the number of the right one, from 0."
        )
    return generation.label


def _length(score: AlternativeScore, length: Length) -> int:
    if length == "tokens":
        return score.tokens - (score.end_nll != 0)
    return len(score.text.encode() if length == "bytes" else score.text)
