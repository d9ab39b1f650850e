"""Harmonic mean of several metrics, such as TOFU's model utility (arXiv 2401.06121)."""

from __future__ import annotations

import numpy as np

from unlearning.metrics.metric import metric
from unlearning.metrics.statistic import Statistic


@metric("Harmonic mean", unit="fraction", direction="higher", needs=())
def harmonic_mean(*figures: Statistic) -> float:
    """Harmonic mean n / (1/x_1 + ... + 1/x_n); 0 where a value is 0, NaN where one is undefined."""
    values = np.array([figure.value for figure in figures])
    if np.isnan(values).any():
        return float("nan")
    if (values < 0).any():
        return float("nan")
    return 0.0 if (values == 0).any() else float(len(values) / (1 / values).sum())
