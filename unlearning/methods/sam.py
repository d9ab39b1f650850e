"""Sharpness-aware forgetting: unlearning that a few steps of relearning do not undo.

    g   = grad L_fgt(theta)
    step: e1 grad L_fgt(theta + rho g / |g|) + the other terms' gradients at theta

(arXiv 2502.05374, with SAM of arXiv 2010.01412, Eq. 2.) The forget loss is descended where it is
worst in a small ball around the weights, so that the neighbourhood forgets, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unlearning.errors import ConfigError
from unlearning.ranges import Positive
from unlearning.training.step_rule import Gradient, StepRule, TermGradients, norm


class SAM(StepRule):
    """Takes the gradient of some terms at perturbed weights, and of the others at the weights
    themselves.

    Takes one more forward and backward of the perturbed terms in every step.

    Args:
        rho: length of the perturbation, over all trained weights.
        terms: names of the terms that are perturbed.

    Raises:
        ConfigError: rho is not a number above 0, or there is no term.
    """

    moves_weights = True

    def __init__(self, rho: Positive = 0.01, terms: Sequence[str] = ("forget",)) -> None:
        if not (rho > 0 and math.isfinite(rho)) or not terms:
            raise ConfigError(
                f"SAM: rho={rho} must be a number above 0, and terms={list(terms)} at least one."
            )
        self.rho, self.terms = rho, list(terms)

    def check(self, names: list[str]) -> None:
        if not set(self.terms) <= set(names):
            raise ConfigError(
                f"SAM perturbs the terms {self.terms}, and the objective has {names}. Name them in "
                "method.rule.terms, with a weight above 0."
            )

    def together(self, names: list[str]) -> list[tuple[str, ...]]:
        return [tuple(self.terms), tuple(name for name in names if name not in self.terms)]

    def gradient(self, terms: TermGradients) -> Gradient:
        ascent = terms(*self.terms)
        # No perturbation where the gradient is 0: every token is above its cap, say.
        scale = self.rho / norm(ascent).clamp(min=1e-12)
        with terms.moved({name: g.mul_(scale) for name, g in ascent.items()}):
            step = terms(*self.terms)
        others = terms.others(*self.terms)
        if others:
            for name, gradient in terms(*others).items():
                step[name] += gradient
        return step
