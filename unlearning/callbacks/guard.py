"""Stops gradient ascent before it breaks the model, and restores the last good weights."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from torch.optim import Optimizer

from unlearning.callbacks.budget import Breach, Budget
from unlearning.callbacks.guarded_terms import forget_terms, retain_kl_metric
from unlearning.callbacks.loss_window import LossWindow
from unlearning.callbacks.retain_utility import RetainUtility
from unlearning.callbacks.snapshot import Snapshot
from unlearning.callbacks.step import StepCallback
from unlearning.errors import ConfigError
from unlearning.fsdp import check_sharded, is_sharded
from unlearning.training.base import OptimizedModule

log = logging.getLogger(__name__)

STATE = ("events", "reason", "weights", "baseline", "failures", "lowerings")


class CollapseGuard(StepCallback):
    """Checks the losses against a `Budget`, and restores the last good weights where they exceed
    it.

    A check looks at means over the last `window` steps, in the middle of a step: after its losses
    are known and before the optimizer uses them. Weights are therefore kept as good only when
    their own losses have passed; the untrained weights count as good. After a breach they are
    restored, and the training stops or continues with smaller weights of the forget terms and with
    the optimizer as it was. Every rank decides from the same, reduced numbers. The last step is
    checked at the end, where nothing is left to wait for: a breach there brings the weights back
    whatever the patience. Between checks nothing is read by the host.
    With `retain_utility` a check also measures the perplexity of held-out retain answers by the
    weights as they are, and logs it as `retain_utility/perplexity`.

    Put it before callbacks that save. A checkpoint holds what was decided and the good weights, so
    that a resumed run goes back to the same ones. Under FSDP it does not, since each rank keeps its
    own parts of them: there the checkpoint's own weights are the ones to go back to.

    Args:
        retain_kl: see `Budget`.
        retain_perplexity: see `Budget`.
        forget_nll: see `Budget`.
        action: `stop`, or `lower` the weight of every term of role forget by `factor`.
        factor: of lowering, 0..1.
        every_n_steps: steps between checks. Each copies the trained weights to the host.
        window: steps over which a value is averaged.
        patience: checks in a row that may exceed a limit before anything is done. Those weights
            are not kept as good. For a value that is not finite, and at the end of the training,
            there is none.
        max_lowerings: the next breach stops.
        kl_metric: what is logged as the retain KL; default: `train/<term>` of the one term of role
            retain that needs the reference.
        retain_nll_metric: what is logged as the retain NLL.
        forget_nll_metric: what is logged as the forget NLL.
        loss_metric: what is logged as the total.
        retain_utility: how far the perplexity of held-out retain answers may rise.

    Attributes:
        reason: why weights were restored the last time; None where they never were.
        events: a dict per broken limit: step, limit, value, budget, action (`wait`, `lower` or
            `stop`) and restored_step, the number of updates in the weights that came back.

    Raises:
        ConfigError: for settings that make no sense, or metrics or terms that are not there.
    """

    def __init__(
        self,
        retain_kl: float | None = None,
        retain_perplexity: float | None = None,
        forget_nll: float | None = None,
        action: Literal["stop", "lower"] = "stop",
        factor: float = 0.5,
        every_n_steps: int = 10,
        window: int = 10,
        patience: int = 0,
        max_lowerings: int = 5,
        kl_metric: str | None = None,
        retain_nll_metric: str = "train/nll_retain",
        forget_nll_metric: str = "train/nll_forget",
        loss_metric: str = "train/total",
        retain_utility: RetainUtility | None = None,
    ) -> None:
        super().__init__()
        if action not in ("stop", "lower"):
            raise ConfigError(f"CollapseGuard: action is {action!r}; choose 'stop' or 'lower'.")
        if not 0 < factor < 1 or min(every_n_steps, window) < 1 or min(patience, max_lowerings) < 0:
            raise ConfigError(
                f"CollapseGuard: factor={factor} must lie between 0 and 1, check every "
                f"{every_n_steps} steps and window={window} be at least 1, patience={patience} and "
                f"max_lowerings={max_lowerings} at least 0."
            )
        utility = None if retain_utility is None else retain_utility.perplexity
        self.budget = Budget(retain_kl, retain_perplexity, forget_nll, utility)
        self.retain_utility = retain_utility
        self.action, self.factor = action, factor
        self.check_every_n_steps, self.window = every_n_steps, window
        self.patience, self.max_lowerings = patience, max_lowerings
        self._loss_metric = loss_metric
        self._sources = {
            "retain_kl": kl_metric,
            "retain_perplexity": retain_nll_metric,
            "forget_nll": forget_nll_metric,
        }
        self._reset()

    def kept_steps(self, steps: int) -> int:
        """Returns the number of updates in the weights after `steps` optimizer steps; fewer than
        these where weights were restored."""
        restored = {event["step"]: event["restored_step"] for event in self.events}
        kept = {0: 0}  # by step, once weights were restored there

        def updates(step: int) -> int:
            since = max(restoring for restoring in kept if restoring <= step)
            return kept[since] + step - since

        for step, back in restored.items():
            if back is not None:
                kept[step] = updates(back)
        return updates(steps)

    def _reset(self) -> None:
        self.reason: str | None = None
        self.events: list[dict[str, Any]] = []
        self.weights: dict[str, float] = {}
        self.baseline: float | None = None
        if self.retain_utility is not None:
            self.retain_utility.nll_before = None
        self.failures = self.lowerings = 0
        self._losses = LossWindow(max(self.window, self.check_every_n_steps), self.window)
        self._checking, self._breaches = False, list[Breach]()
        self._whole = self._ended = False
        self._saved_good: dict[str, Any] | None = None  # of the run before a resume

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._reset()  # a resumed run's state is loaded after this

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        check_sharded(trainer.strategy, guard_action=self.action)
        self._metrics = {
            limit: self._sources[limit] or retain_kl_metric(pl_module)
            for limit in self.budget.limits
            if limit in self._sources
        }
        self._losses.names = (self._loss_metric, *self._metrics.values())
        self._losses.to(pl_module.device)
        lowers = self.action == "lower" or bool(self.weights)
        self._terms = forget_terms(pl_module, self.weights) if lowers else {}
        masters = pl_module.masters if isinstance(pl_module, OptimizedModule) else None
        optimizer = trainer.optimizers[0] if self.action == "lower" else None
        self._good = Snapshot(pl_module, optimizer, masters)
        self._whole = not is_sharded(trainer.strategy)
        saved, self._saved_good = self._saved_good, None
        if saved is not None and self._whole:
            self._good.load_state_dict(saved)
        elif self._good.finite():
            self._good.take(trainer.global_step)
        else:
            raise ConfigError("Some weights to start from are not finite; start from others.")
        if self.retain_utility is not None:
            self.retain_utility.start(trainer)
        if self.events and self.events[-1]["action"] == "stop":
            trainer.should_stop = True  # saved in the step that ended the training

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if (trainer.global_step + 1) % self.check_every_n_steps:
            return
        self._checking = True
        self._losses.add_batch(trainer.callback_metrics)
        self._losses.end_step()
        self._breaches = self._check(trainer)
        if not self._breaches:
            self.failures = 0
            self._good.take(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._checking:
            self._losses.add_batch(trainer.callback_metrics)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        last = step == trainer.max_steps
        if not self._checking:
            self._losses.end_step()
        elif self._breaches:
            self._act(trainer, step, last)
        self._checking = False
        # Before this step is saved: from its checkpoint on, a resume makes no step and no check.
        if last:
            self._check_end(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._ended:
            self._check_end(trainer)

    def _check_end(self, trainer: Trainer) -> None:
        self._ended = True
        self._breaches = self._check(trainer)
        if self._breaches:
            self._act(trainer, trainer.global_step, last=True)

    def _check(self, trainer: Trainer) -> list[Breach]:
        """Returns the limits that are exceeded, the same on every rank."""
        finite, means = self._good.finite(), torch.zeros(0, device=trainer.strategy.root_device)
        if self._losses:
            means, losses_finite = self._losses.means()
            finite = finite & losses_finite
        numbers = torch.cat([finite.to(means)[None], means])
        all_finite, *values = trainer.strategy.reduce(numbers, reduce_op="mean").tolist()
        if all_finite != 1:
            return [Breach("finite")]
        found = dict(zip(self._metrics, values[1:], strict=False))  # the first is the loss
        if "retain_perplexity" in found:
            nll = found["retain_perplexity"]
            self.baseline = nll if self.baseline is None else self.baseline
            found["retain_perplexity"] = math.exp(min(nll - self.baseline, 700.0))
        if self.retain_utility is not None:
            found["retain_utility"] = self.retain_utility.relative(trainer)
        return self.budget.breaches(found)

    def _act(self, trainer: Trainer, step: int, last: bool) -> None:
        self.failures += 1
        action: str = self.action
        if last or self.lowerings >= self.max_lowerings:
            action = "stop"
        if not last and self.failures <= self.patience and self._breaches[0].limit != "finite":
            action = "wait"
        restored = None if action == "wait" else self._good.step
        for breach in self._breaches:
            event = {"step": step, **vars(breach), "action": action, "restored_step": restored}
            self.events.append(event)
        told = f"Collapse guard at step {step}: {'; '.join(map(str, self._breaches))}. "
        if action == "wait":
            told += f"Check {self.failures} of {self.patience} that may pass."
        else:
            self.failures = 0
            self._losses.clear()
            self._good.restore()
            told += f"The weights after {restored} steps are back; "
        if action == "stop":
            trainer.should_stop = True
            told += "training ends."
        elif action == "lower":
            self.lowerings += 1
            for name, term in self._terms.items():
                term.weight = self.weights[name] = term.weight * self.factor
            told += f"training goes on with lower forget weights, {self.weights}."
        if action != "wait":
            self.reason = told
        if trainer.is_global_zero:
            log.warning(told)

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in STATE}
        good = self._good.state_dict() if self._whole else self._saved_good
        if self.retain_utility is not None:
            state["nll_before"] = self.retain_utility.nll_before
        return {**state, "losses": self._losses.state_dict(), "good": good}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state_dict[name])
        if self.retain_utility is not None:
            self.retain_utility.nll_before = state_dict.get("nll_before")
        self._losses.load_state_dict(state_dict["losses"])
        self._saved_good = state_dict.get("good")
