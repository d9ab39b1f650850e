"""How a run ended: by itself, or with the weights of an earlier step put back by the guard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unlearning.report.figures import number

REVERTED = "reverted"
"""Status of a run that trained and ended with the weights it began with."""


def kept_steps(metrics: Mapping[str, Any]) -> int | None:
    """Returns the number of optimizer steps in the weights that were evaluated.

    Until version 0.5 the reason to stop alone says it.
    """
    found = number(metrics.get("kept_steps"))
    if found is None:
        told = re.search(
            r"The weights after (\d+) steps are back; training ends",
            str(metrics.get("stop_reason") or ""),
        )
        found = number(metrics.get("steps")) if told is None else float(told[1])
    return None if found is None else int(found)


def is_reverted(metrics: Mapping[str, Any]) -> bool:
    """Whether the run trained and ended with the weights it began with: nothing was unlearned."""
    return bool(number(metrics.get("steps"))) and kept_steps(metrics) == 0


def put_back(metrics: Mapping[str, Any]) -> str:
    """Says what the guard put back, in a sentence; "" where it put back nothing."""
    steps, kept = number(metrics.get("steps")), kept_steps(metrics)
    if is_reverted(metrics):
        return (
            f"The collapse guard put back the weights from before the first of {steps:.0f} steps: "
            "nothing was unlearned."
        )
    if steps is None or kept is None or kept >= steps:
        return ""
    return f"The collapse guard put back the weights after {kept} of {steps:.0f} steps."
