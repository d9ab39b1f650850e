"""Limits on how far unlearning may go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from unlearning.errors import ConfigError

LABELS = {
    "retain_kl": "the KL to the reference on retain answers (nats)",
    "retain_perplexity": "the perplexity of retain answers, relative to that at the first check,",
    "forget_nll": "the NLL of the answers to forget (nats per token)",
    "retain_utility": "the perplexity of retain answers held out, relative to that before "
    "unlearning,",
}


@dataclass(frozen=True)
class Breach:
    """A limit that was exceeded. Value and budget are None where something is not finite."""

    limit: str
    value: float | None = None
    budget: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "a loss or a weight is not finite"
        return f"{LABELS[self.limit]} is {self.value:.4g}, above its budget of {self.budget:.4g}"


@dataclass(frozen=True)
class Budget:
    """Upper limits of logged values; None sets no limit. Values have to be finite in any case.

    Args:
        retain_kl: nats, of the KL term on retain answers (a token's mean with `reduction: mean`).
        retain_perplexity: times the perplexity of retain answers at the first check, so above 1.
            Other answers are in every window, so allow for their differences; the KL is sharper.
        forget_nll: nats per token. A uniform guess has log V (10.8 for OPT); far beyond that the
            model is driven apart rather than made to forget.
        retain_utility: times the perplexity of retain answers held out before unlearning, see
            `unlearning.callbacks.retain_utility`.

    Raises:
        ConfigError: a limit that the untrained model would break already.

    Examples:
        >>> [str(breach) for breach in Budget(retain_kl=0.5).breaches({"retain_kl": 0.75})]
        ['the KL to the reference on retain answers (nats) is 0.75, above its budget of 0.5']
    """

    retain_kl: float | None = None
    retain_perplexity: float | None = None
    forget_nll: float | None = None
    retain_utility: float | None = None

    def __post_init__(self) -> None:
        lowest = {
            "retain_kl": 0.0, "retain_perplexity": 1.0, "forget_nll": 0.0, "retain_utility": 1.0,
        }  # fmt: skip
        for name, bound in lowest.items():
            limit = getattr(self, name)
            if limit is not None and not limit > bound:
                raise ConfigError(
                    f"{name} is {limit}; a budget must be above {bound:g}, or null for none."
                )

    @property
    def limits(self) -> dict[str, float]:
        """Returns the limits that are set."""
        limits = {name: getattr(self, name) for name in LABELS}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def breaches(self, values: Mapping[str, float]) -> list[Breach]:
        """Returns the limits that `values`, by limit's name, exceed; a value that is not finite
        exceeds any."""
        if not all(math.isfinite(value) for value in values.values()):
            return [Breach("finite")]
        limits = self.limits
        return [Breach(n, v, limits[n]) for n, v in values.items() if n in limits and v > limits[n]]
