"""Primal-dual unlearning (PDU), arXiv 2506.05314.

    minimise L_f   subject to   L_r <= epsilon,      epsilon = (1 + tolerance) L_r(before)

    theta  <- theta - eta grad (L_f + lambda (L_r - epsilon))
    lambda <- max(0, lambda + dual_step (L_r - epsilon))

    L_f = mean over a sequence's tokens of (max_v z_v - mean_v z_v)^2   (logit-margin flattening)

The multiplier lambda is the weight of the term that is the constraint; the weight of the
configuration is its start, and stays for the first epochs. It is updated once an optimizer step by
the mean of L_r over its micro-batches and ranks; the authors' code does so at every micro-batch of
every rank by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.models.decoder import CausalLM, evaluating
from unlearning.module import UnlearningModule
from unlearning.quantities import token_quantity
from unlearning.ranges import Count, NotNegative, Positive, Whole
from unlearning.training.batch_loss import BatchLoss, BatchValues
from unlearning.types import Batch

log = logging.getLogger(__name__)
STATE = "pdu"

PDU_TERMS: dict[str, dict[str, Any]] = {
    "forget": {"loss": "unlearning.methods.pdu.logit_margin", "role": "forget", "weight": 1.0},
    "retain": {"loss": "unlearning.losses.nll", "role": "retain", "weight": 100.0},
}


@token_quantity()
def logit_margin(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Computes the squared distance of the largest logit to the mean of all, [N].

    It is 0 where the distribution is uniform, and nowhere else; it does not look at the target.

    Examples:
        >>> logit_margin(torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([1, 0]))
        tensor([4., 0.])
    """
    return (logits_NV.amax(-1) - logits_NV.mean(-1)).square()


class PDU(UnlearningModule):
    """Minimises the forget terms under a limit on the retain loss, whose weight is a multiplier.

    Costs no forward beside those of the two terms, and `measured_batches` before the first step
    where epsilon is not given. Logs the multiplier as `train/dual`; it and the limit are in the
    checkpoint.

    Args:
        model: see `UnlearningModule`, as for all other arguments.
        epsilon: limit of the constraint's loss, in its unit (nats for the NLL); None takes
            (1 + `tolerance`) times its value before the first step.
        tolerance: the share by which the loss may rise; of no use where epsilon is given.
        dual_step: step size of the multiplier.
        dual_warmup_epochs: passes over the forget set before it is updated.
        measured_batches: of the training, from its first on; the value before is their mean.
        constraint: name of the term that is the constraint. Its weight is the multiplier's start.
        terms: `PDU_TERMS`, or others.

    Raises:
        ConfigError: for settings that make no sense, a step rule, or a term that is not there; from
            the start of the training, where the value before cannot be measured (as of weights that
            are split over ranks), or is 0.
    """

    logs = ("dual",)

    def __init__(
        self,
        model: CausalLM | str,
        epsilon: NotNegative | None = None,
        tolerance: NotNegative = 0.1,
        dual_step: Positive = 5.0,
        dual_warmup_epochs: Whole = 5,
        measured_batches: Count = 16,
        constraint: str = "retain",
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if not (dual_step > 0 and tolerance >= 0 and (epsilon is None or epsilon >= 0)):
            raise ConfigError(
                f"PDU: dual_step={dual_step} must be above 0, tolerance={tolerance} and "
                f"epsilon={epsilon} at least 0."
            )
        if dual_warmup_epochs < 0 or measured_batches < 1:
            raise ConfigError(
                f"PDU: dual_warmup_epochs={dual_warmup_epochs} must be at least 0 and "
                f"measured_batches={measured_batches} at least 1."
            )
        if settings.get("rule") is not None:
            raise ConfigError("PDU weighs the terms itself, and takes no step rule: rule=null.")
        super().__init__(model, PDU_TERMS if terms is None else terms, **settings)
        if constraint not in self.objective.terms:
            raise ConfigError(
                f"PDU: constraint={constraint!r} is none of the terms {[*self.objective.terms]}. "
                "Give that term a weight above 0, the multiplier's start."
            )
        self.epsilon, self.tolerance, self.dual_step = epsilon, tolerance, dual_step
        self.dual_warmup_epochs, self.measured_batches = dual_warmup_epochs, measured_batches
        self.constraint = constraint
        self._seen: list[Tensor] = []  # of the constraint's loss, by micro-batch of this step

    @property
    def dual(self) -> float:
        """The multiplier lambda: the weight of the constraint's term."""
        return self.objective.terms[self.constraint].weight

    def loss(self, batch: Batch) -> BatchValues:
        values = super().loss(batch)
        if torch.is_grad_enabled():  # not in a validation
            self._seen.append(values.terms[self.constraint].detach())
        return values

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        total = super().training_step(batch, batch_idx)
        self.log("train/dual", self.dual, batch_size=1)
        return total

    # --- the multiplier -------------------------------------------------------------------------

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.update_dual(self.trainer.current_epoch < self.dual_warmup_epochs)

    def update_dual(self, warmup: bool = False) -> None:
        """Moves the multiplier by what the constraint's loss was since the last update; a loop of
        your own calls it after each optimizer step.

        Args:
            warmup: leave the multiplier as it is.
        """
        seen, self._seen = self._seen, []
        if warmup or not seen:
            return
        if self.epsilon is None:
            raise ConfigError("PDU: epsilon is not known; give it, or call measure(batches).")
        mean = torch.stack(seen).mean()
        if self._trainer is not None:
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        moved = self.dual + self.dual_step * (float(mean) - self.epsilon)
        self.objective.terms[self.constraint].weight = max(0.0, moved)

    # --- its limit ------------------------------------------------------------------------------

    @classmethod
    def check_split(cls, settings: Mapping[str, Any]) -> None:
        if settings.get("epsilon") is None:
            raise ConfigError(
                "PDU measures the loss before the training by the whole policy on every device, "
                "and here each has a part of its weights. Give epsilon (method.epsilon), or take "
                "trainer=ddp."
            )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._seen = []
        if self.epsilon is not None:  # given, or of the checkpoint that is resumed
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, UnlearningDataModule):
            raise ConfigError(
                "PDU measures the loss before the training on an UnlearningDataModule. Give "
                "epsilon (method.epsilon) instead."
            )
        with self.trainer.precision_plugin.forward_context():
            self.measure(data.batch_at(n).to(self.device) for n in range(self.measured_batches))

    def on_train_start(self) -> None:
        super().on_train_start()
        steps = self.trainer.estimated_stepping_batches
        warmup = self.dual_warmup_epochs * self.trainer.num_training_batches
        if warmup >= steps * self.trainer.accumulate_grad_batches:
            log.warning(
                "PDU: the training ends within the %d epochs in which the multiplier is not "
                "updated; it stays %g. Lower method.dual_warmup_epochs.",
                self.dual_warmup_epochs, self.dual,
            )  # fmt: skip

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch]) -> float:
        """Sets epsilon by the mean of the constraint's loss on batches, and returns it.

        Raises:
            ConfigError: the loss is 0, of which no share can be taken.
        """
        part = self.objective.only((self.constraint,))
        compute = BatchLoss(part, self._batch_loss.reduction, self._batch_loss.chunk_size)
        with evaluating(self.policy):
            values = [
                compute(self.policy, batch.only(part.roles), self._reference_for(batch))
                for batch in batches
            ]
        mean = torch.stack([found.terms[self.constraint] for found in values]).mean()
        if self._trainer is not None:
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        before = float(mean)
        if not before > 1e-5:
            raise ConfigError(
                f"PDU: the term {self.constraint!r} is {before:.2g} before the first step, of "
                "which no share can be taken as its limit. Give epsilon (method.epsilon)."
            )
        self.epsilon = (1 + self.tolerance) * before
        log.info("PDU: %s is %.4g before, epsilon %.4g", self.constraint, before, self.epsilon)
        return self.epsilon

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE] = {"dual": self.dual, "epsilon": self.epsilon}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if state := checkpoint.get(STATE):
            self.objective.terms[self.constraint].weight = state["dual"]
            self.epsilon = state["epsilon"]
