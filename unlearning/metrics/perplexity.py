"""Perplexity from summed NLLs and token counts.

torchmetrics' own perplexity takes the logarithm of a softmax, so that one token of NLL 200 makes
it infinite, and wants logits of every position. Here the NLL of an answer arrives as a sum in
nats, from `log_softmax` at the answer's tokens only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.metrics.metric import Answers, StatedChange, metric
from unlearning.metrics.statistic import Array, Sums, scores


def mean_token_nll(nll: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Computes sum NLL / sum tokens, in nats per token, elementwise. NaN where there is no
    token."""
    sums, counts = np.asarray(nll, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    means = np.full(np.broadcast(sums, counts).shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def perplexity(nll: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Computes exp(sum NLL / sum tokens), elementwise. Above exp(709) it is infinite, never NaN.

    Examples:
        >>> perplexity(np.array([2 * np.log(8)]), np.array([2])).round(6)  # two tokens of p = 1/8
        array([8.])
    """
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(mean_token_nll(nll, tokens)))


def relative_change(before: Array, after: Array) -> Array:
    """Computes (after / before - 1) * 100, in percent; NaN where that is undefined."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return (after / before - 1) * 100


@metric(
    "Perplexity of the data set's answers", unit="perplexity (1..)", direction="lower",
    name="perplexity", needs=("target",),
    changes={
        "perplexity_relative": StatedChange(
            relative_change, "Perplexity, relative change", unit="percent",
            direction="near zero",
        )
    },
)  # fmt: skip
def target_perplexity(answers: Answers) -> Sums:
    """Perplexity of the targets: exp of the mean NLL per token, over all tokens of all targets."""
    return Sums(_nll_rows(answers), lambda sums: perplexity(sums[:, 0], sums[:, 1]))


@metric(
    "NLL of the data set's answers", unit="nats per token", direction="lower", needs=("target",)
)
def target_nll(answers: Answers) -> Sums:
    """Mean NLL per token of the targets, over all tokens of all targets."""
    return Sums(_nll_rows(answers), lambda sums: mean_token_nll(sums[:, 0], sums[:, 1]))


def _nll_rows(answers: Answers) -> Array:
    nll = scores(g.target_nll if g.target_tokens else None for g in answers)
    return np.stack([nll, scores(g.target_tokens for g in answers)], axis=1)
