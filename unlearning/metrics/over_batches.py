"""A declared metric as a `torchmetrics.Metric`, for training loops."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Answers, Metric
from unlearning.metrics.statistic import Sums
from unlearning.types import AlternativeScore, Generation

_SCORED = (AlternativeScore("a", 1.0, 1), AlternativeScore("b", 2.0, 1))
_ANY = Generation(
    "", "", 0, "a b c d", "a b c d", "a b c d", 4, harm_probability=0.0, target_nll=1.0,
    target_tokens=4, target_matches=4, target_suffix=4, verbatim_tokens=4,
    alternatives=dict.fromkeys(("choices", "paraphrased", "perturbed"), _SCORED), label=0,
)  # fmt: skip
"""An answer with all that a metric may need, to see what kind of statistic it gives."""


class OverBatches(torchmetrics.Metric):
    """Accumulates a metric's statistics over batches and ranks.

        bleu = OverBatches(bleu_to_target)
        bleu.update(generations); bleu.compute()

    Args:
        metric: one whose statistics add up (`Sums`, or a score per prompt).
        example: an answer that the metric applies to, where it needs more than is usual.
        context: what its thresholds are set to, by the parameter's name.

    Raises:
        ConfigError: the metric's statistics do not add up, it compares two models, or it does not
            apply to `example`.
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor

    def __init__(self, metric: Metric, example: Generation = _ANY, **context: Any) -> None:
        super().__init__()
        found = metric.statistic([example], None, context) if metric.against is None else None
        if found is None and metric.against is None:
            raise ConfigError(
                f"{metric.path} does not apply to an answer with target, choices and paraphrases; "
                "give one that it applies to: OverBatches(metric, example=generation)."
            )
        if not isinstance(found, Sums):
            raise ConfigError(
                f"{metric.path} does not add up over batches: it compares two models or is a "
                "function of all answers. Collect the answers and call it once."
            )
        self.metric, self.context, self.of_sums = metric, context, found.of_sums
        zeros = torch.zeros(found.rows.shape[1], dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")

    def update(self, answers: Answers) -> None:
        """Adds answers; there may be none."""
        found = self.metric.statistic(answers, None, self.context) if answers else None
        if isinstance(found, Sums):
            self.sums += torch.from_numpy(found.rows.sum(axis=0)).to(self.sums.device)

    def compute(self) -> Tensor:
        """Computes the metric of all answers; NaN where it is undefined."""
        return torch.tensor(self.of_sums(self.sums.cpu().numpy()[None])[0])
