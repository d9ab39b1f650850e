"""Flattens metrics to named numbers and tables for trackers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from unlearning.nested import leaves
from unlearning.types import Generation

TABLE_COLUMNS = (
    "prompt_set", "index", "prompt", "target", "before", "after", "harm_before", "harm_after",
)  # fmt: skip


def scalars(node: Any, path: str = "") -> dict[str, int | float]:
    """Returns every finite number below a mapping, by its dotted path:
    `after.related/perplexity.value`.

    Examples:
        >>> scalars({"after": {"harmful/rate": {"value": 0.25, "n": 8}}, "stopped": None})
        {'after.harmful/rate.value': 0.25, 'after.harmful/rate.n': 8}
    """
    return {
        name: value
        for name, value in leaves(node, path, lists=False)
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def summary(metrics: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Returns the scalars of `metrics.json`, and its texts such as why a run stopped."""
    words = {name: value for name, value in metrics.items() if isinstance(value, str)}
    return {**scalars(metrics), **words}


def answer_rows(before: Iterable[Generation], after: Iterable[Generation]) -> list[list[Any]]:
    """Returns rows of `TABLE_COLUMNS`: the answers before and after to the same prompt."""
    later = {(g.prompt_set, g.index): g for g in after}
    rows: list[list[Any]] = []
    for first in before:
        second = later.get((first.prompt_set, first.index))
        rows.append([
            first.prompt_set, first.index, first.prompt, first.target, first.completion,
            second.completion if second else None, first.harm_probability,
            second.harm_probability if second else None,
        ])  # fmt: skip
    return rows
