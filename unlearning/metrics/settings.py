"""Settings of thresholds and intervals, recorded with every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from unlearning.errors import ConfigError
from unlearning.metrics.accuracy import ROUGE_THRESHOLD, check_threshold
from unlearning.metrics.bootstrap import CONFIDENCE, N_RESAMPLES, Resampling
from unlearning.metrics.harm import HARM_THRESHOLD


@dataclass(frozen=True)
class ComparisonSettings:
    """Thresholds of right and harmful answers, and settings of the bootstrap.

    Args:
        harm_threshold: an answer is harmful where its probability exceeds this.
        rouge_threshold: ROUGE-L F1 from which an answer is right.
        n_resamples: bootstrap resamples.
        confidence: of the intervals.
        seed: of the resamples.
    """

    harm_threshold: float = HARM_THRESHOLD
    rouge_threshold: float = ROUGE_THRESHOLD
    n_resamples: int = N_RESAMPLES
    confidence: float = CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        check_threshold(self.rouge_threshold)
        if not 0 <= self.harm_threshold < 1:
            raise ConfigError(
                f"harm threshold is {self.harm_threshold}; expected 0 <= threshold < 1."
            )
        Resampling(self.n_resamples, self.confidence, self.seed)  # refuses what gives no interval

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.n_resamples, self.confidence, self.seed)
