"""Gradient rectified unlearning (GRU), arXiv 2503.09117.

    r~  <- gamma r + (1 - gamma) r~                 r: the retain gradient of this step; r~_0 = 0
    u'  =  u - min(0, <u, r~>) / |r~|^2 r~          u: the gradient to be rectified

u' is the direction nearest to u that does not oppose the smoothed retain gradient: to first order,
a step along it does not raise the retain loss. The optimizer gets u' and the gradients of all terms
that are neither rectified nor a constraint. The retain gradient itself is not descended, unless its
term is among the rectified ones too (as the authors' code does for GradDiff).

The paper's clipping of u' to a norm tau is the Trainer's: `unlearn.gradient_clip_val`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.ranges import Share
from unlearning.training.step_rule import Gradient, StepRule, TermGradients, gram


class GRU(StepRule):
    """Removes from the forget gradient what opposes the smoothed retain gradient.

    Takes a forward and backward for each of the two, and keeps the smoothed gradient and, until
    the optimizer has stepped, the step's two gradients. The rectified gradient is that of the whole
    step: with gradient accumulation each micro-batch adds what the mean over those so far changes.
    Logs `train/cosine`, between the gradient to be rectified and the smoothed retain gradient, each
    over the micro-batches of the step so far; below 0 they are in conflict.

    Args:
        rectified: names of the terms whose gradient is rectified.
        constraints: names of the terms that they shall not work against.
        gamma: weight of the newest retain gradient in the smoothed one; 1 smooths nothing.

    Raises:
        ConfigError: gamma is not above 0 and at most 1, or either list is empty.
    """

    logs = ("cosine",)

    def __init__(
        self,
        rectified: Sequence[str] = ("forget",),
        constraints: Sequence[str] = ("retain",),
        gamma: Share = 0.8,
    ) -> None:
        if not 0 < gamma <= 1 or not rectified or not constraints:
            raise ConfigError(
                f"GRU: gamma={gamma} must be above 0 and at most 1, and rectified="
                f"{list(rectified)} and constraints={list(constraints)} at least one term each."
            )
        self.rectified, self.constraints = list(rectified), list(constraints)
        self.gamma = gamma
        self._smoothed: Gradient = {}  # of the steps before this one
        self._reset()

    def _reset(self) -> None:
        self._seen = 0  # micro-batches of this step; the gradients are sums over them
        self._forget: Gradient = {}
        self._retain: Gradient = {}

    def check(self, names: list[str]) -> None:
        wanted = {*self.rectified, *self.constraints}
        if not wanted <= set(names):
            raise ConfigError(
                f"GRU works with the terms {sorted(wanted)}, and the objective has {names}. Name "
                "them in method.rule.rectified and .constraints, with a weight above 0."
            )

    def together(self, names: list[str]) -> list[tuple[str, ...]]:
        both = {*self.rectified, *self.constraints}
        others = tuple(name for name in names if name not in both)
        return [tuple(self.rectified), tuple(self.constraints), others]

    def gradient(self, terms: TermGradients) -> Gradient:
        forget, retain = terms(*self.rectified), terms(*self.constraints)
        others = terms.others(*self.rectified, *self.constraints)
        before = self._rectified_sum()[0] if self._seen else {}
        self._seen += 1
        self._forget = _sum(self._forget, forget)
        self._retain = _sum(self._retain, retain)
        step, terms.logged["cosine"] = self._rectified_sum()
        if before:
            step = {name: step[name] - before[name] for name in step}
        return _sum(step, terms(*others)) if others else step

    def _smooth(self, name: str) -> Tensor:
        """Computes a weight's smoothed retain gradient of this step; anew where it is needed, so
        that one weight's is held at a time."""
        smooth = self._retain[name] * (self.gamma / self._seen)
        if self._smoothed:
            smooth.add_(self._smoothed[name].to(smooth), alpha=1 - self.gamma)
        return smooth

    def _rectified_sum(self) -> tuple[Gradient, Tensor]:
        """Computes the rectified gradient of the micro-batches so far, times their number, and the
        cosine before it was rectified."""
        products = torch.stack(
            [gram({name: g}, {name: self._smooth(name)}) for name, g in self._forget.items()]
        ).sum(0)
        length, product, square = products[0, 0], products[0, 1], products[1, 1]
        cosine = product / (square * length).sqrt().clamp(min=1e-30)
        if not product < 0:  # then every bit of it stays
            return self._forget, cosine
        share = float(product / square)
        return {n: self._smooth(n).mul_(-share).add_(g) for n, g in self._forget.items()}, cosine

    def step_done(self) -> None:
        if self._seen:
            self._forget = {}
            self._smoothed = {name: self._smooth(name) for name in self._retain}
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        return {"smoothed": self._smoothed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._smoothed = dict(state.get("smoothed", {}))
        self._reset()


def _sum(one: Gradient, other: Gradient) -> Gradient:
    """Adds two gradients, none of them in place; an empty one is 0."""
    if not one or not other:
        return one or other
    return {name: one[name] + other[name] for name in one}
