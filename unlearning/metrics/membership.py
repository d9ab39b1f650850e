"""Membership inference by the loss: can answers that were trained on be told from others?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.metrics.metric import metric
from unlearning.metrics.statistic import Sample, Sums


def roc_auc(negatives: ArrayLike, positives: ArrayLike) -> float:
    """Computes the area under the ROC curve: the probability that a positive's score is above a
    negative's, ties counting half (Mann-Whitney). NaN where a side is empty or holds a NaN.

    Examples:
        >>> roc_auc([1.0, 2.0], [2.0, 3.0])  # of four pairs three are right and one is a tie
        0.875
    """
    low, high = (np.asarray(side, dtype=np.float64) for side in (negatives, positives))
    if not (low.size and high.size) or np.isnan(low).any() or np.isnan(high).any():
        return float("nan")
    ordered: NDArray[np.float64] = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    at_most = np.searchsorted(ordered, high, side="right")
    return float((below + at_most).mean() / (2 * low.size))


@metric(
    "Membership AUC of the loss (.5: seen cannot be told from held out)", unit="AUC", needs=(),
)  # fmt: skip
def membership_auc(seen: Sums | Sample, held_out: Sums | Sample) -> float:
    """AUC of the LOSS attack (Yeom et al., arXiv 1709.01604): the probability that an answer that
    was trained on has a lower mean token NLL than one that was not.

    An aggregate of two sets: `of: [harmful_train/target_nll, harmful_heldout/target_nll]`. Above .5
    the model knows the first set's answers; below it, their loss stands out as too high, which
    tells them as well. Both sets must be drawn alike, or the AUC measures how they differ: see what
    it is for the model before it was trained on them.

    Args:
        seen: `target_nll` of answers that were trained on.
        held_out: the same of answers that were not.
    """
    return roc_auc(seen.scores, held_out.scores)
