"""A declared metric as a `torchmetrics.Metric`, for training loops."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Answers, Metric
from unlearning.metrics.statistic import Sums
from unlearning.types import Generation

_ANY = Generation("", "", 0, "a b c d", "a b c d", "a b c d", target_nll=1.0, target_tokens=4)


class OverBatches(torchmetrics.Metric):
    """Accumulates a metric's statistics over batches and ranks.

        bleu = OverBatches(bleu_to_target)
        bleu.update(generations); bleu.compute()

    Args:
        metric: one whose statistics add up (`Sums`, or a score per prompt).
        context: what its thresholds are set to, by the parameter's name.

    Raises:
        ConfigError: the metric's statistics do not add up, or it compares two models.
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor

    def __init__(self, metric: Metric, **context: Any) -> None:
        super().__init__()
        found = metric.statistic([_ANY], None, context) if metric.against is None else None
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
