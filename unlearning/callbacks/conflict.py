"""Logs whether forgetting and retaining pull the weights in opposite directions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from unlearning.callbacks.step_metrics import on_host
from unlearning.errors import ConfigError
from unlearning.fsdp import is_sharded
from unlearning.module import UnlearningModule
from unlearning.training.step_rule import Gradient, gram

log = logging.getLogger(__name__)
METRIC = "gradients/cosine_forget_retain"


class GradientConflict(Callback):
    """Logs the cosine of the forget and the retain terms' gradients, every n-th step.

    cos = <g_f, g_r> / (|g_f| |g_r|), each the gradient of the weighted sum of its side's terms by
    all trained weights, on the batch that the step is made of. Below 0 a step for one side works
    against the other, and near -1 they cancel. NaN where one gradient is 0. It is logged as
    `gradients/cosine_forget_retain`, and a line at the end says how often they were opposed. Each
    measurement costs a forward and a backward of either side.

    Args:
        every_n_steps: steps between measurements; the first step is one.
        forget: names of the terms of the one side; None is every term on forget answers.
        retain: of the other; None is every term on retain answers.

    Attributes:
        cosines: the number of updates before each measurement, and its value.

    Raises:
        ConfigError: when the training starts: a side has no terms, the module has none, or its
            weights are split over ranks.
    """

    def __init__(
        self,
        every_n_steps: int = 10,
        forget: Sequence[str] | None = None,
        retain: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ConfigError(
                f"GradientConflict: every_n_steps is {every_n_steps}; it must be at least 1."
            )
        self.every_n_steps = every_n_steps
        self._asked = {"forget": forget, "retain": retain}
        self.cosines: dict[int, float | Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.cosines = {}
        if not isinstance(pl_module, UnlearningModule):
            raise ConfigError("GradientConflict measures the terms of an UnlearningModule.")
        if is_sharded(trainer.strategy):
            raise ConfigError(
                "GradientConflict needs every weight whole on every device. Take trainer=ddp, or "
                "leave it out."
            )
        self._sides = [self._terms(pl_module, side) for side in self._asked]

    def _terms(self, module: UnlearningModule, side: str) -> tuple[str, ...]:
        terms, asked = module.objective.terms, self._asked[side]
        found = (
            tuple(name for name, term in terms.items() if side in term.roles)
            if asked is None
            else tuple(asked)
        )
        if not found or not set(found) <= terms.keys():
            raise ConfigError(
                f"GradientConflict: {side}={list(found)}, and the objective has the terms "
                f"{list(terms)}. Name at least one of them."
            )
        return found

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.every_n_steps or step in self.cosines:
            return
        assert isinstance(pl_module, UnlearningModule)
        with trainer.precision_plugin.train_step_context():
            gradients = pl_module.term_gradients(batch)
            value = cosine(*(gradients(*names) for names in self._sides))
        self.cosines[step] = value
        pl_module.log(METRIC, value, batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.cosines = dict(zip(self.cosines, on_host(self.cosines.values()), strict=True))
        known = [value for value in self.cosines.values() if value == value]
        if known and trainer.is_global_zero:
            log.info(
                "Gradients of forgetting and retaining: cosine %.2f on average over %d steps, "
                "opposed in %d.",
                sum(known) / len(known), len(known), sum(value < 0 for value in known),
            )  # fmt: skip


def cosine(first: Gradient, second: Gradient) -> Tensor:
    """Computes the cosine of two gradients over all weights; NaN where one of them is 0."""
    products = gram(first, second)
    return products[0, 1] / (products[0, 0] * products[1, 1]).sqrt()
