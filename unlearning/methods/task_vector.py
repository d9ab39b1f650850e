"""Task-vector negation, arXiv 2212.04089, Section 4: forgetting by weight arithmetic.

tau   = theta_tuned - theta          theta_tuned: theta, fine-tuned on what is to be forgotten
theta <- theta - alpha tau
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from unlearning.errors import ConfigError
from unlearning.methods.weight_edit import ModelNeed, WeightEdit
from unlearning.models.decoder import CausalLM
from unlearning.ranges import Positive


class TaskVector(WeightEdit):
    """Subtracts alpha times what fine-tuning on the forget set adds to the weights.

    Args:
        alpha: the scaling term; the authors choose it on held-out data.
        tuned: the model that was fine-tuned on the forget set, a folder or hub id; None fine-tunes
            the policy.
        tuning: how, by keys of `conf/finetune`.

    Raises:
        ConfigError: alpha is not a finite number above 0.
    """

    def __init__(
        self,
        alpha: Positive = 1.0,
        tuned: str | None = None,
        tuning: Mapping[str, Any] | None = None,
    ) -> None:
        if not (alpha > 0 and math.isfinite(alpha)):
            raise ConfigError(f"TaskVector: alpha={alpha} must be a number above 0.")
        self.alpha, self.tuned, self.tuning = alpha, tuned, dict(tuning or {})

    @property
    def needs(self) -> Mapping[str, ModelNeed]:
        return {"tuned": ModelNeed(self.tuned, self.tuning)}

    @torch.no_grad()
    def edit(self, policy: CausalLM, models: Mapping[str, CausalLM]) -> None:
        tuned = dict(models["tuned"].named_parameters())
        weights = dict(policy.named_parameters())
        if {n: p.shape for n, p in weights.items()} != {n: p.shape for n, p in tuned.items()}:
            raise ConfigError(
                f"The tuned model ({type(models['tuned']).__name__}) has other weights than the "
                f"policy ({type(policy).__name__}). Give one that was fine-tuned from it, with "
                "its adapter merged."
            )
        for name, weight in weights.items():
            weight.sub_(tuned[name].to(weight) - weight, alpha=self.alpha)
