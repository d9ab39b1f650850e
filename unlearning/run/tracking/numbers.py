"""Flattens metrics to named numbers and tables for trackers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from unlearning.nested import leaves
from unlearning.report.figures import figure, prompt_sets, section
from unlearning.report.specs import front
from unlearning.report.stages import models
from unlearning.report.verdict import verdicts
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


def core(metrics: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Returns what the reports put in front, by the same names as `summary`.

    Of each prompt set the metrics that it shows first, of the last model and of its change; of the
    classifier accuracy and F1; numbers and texts of the run itself; how many checks it passed.
    """
    last = (models(metrics) or ["after"])[-1]
    found: dict[str, int | float | str] = {}
    for prompt_set in prompt_sets(metrics):
        shown = front(metrics, prompt_set)
        for part in (last, "change"):
            for key, raw in section(metrics, part).items():
                of, _, metric = key.rpartition("/")
                if of == prompt_set and (metric in shown or not shown):
                    found |= scalars({"value": figure(raw).value}, f"{part}.{key}")
    judge = section(metrics, "classifier")
    found |= scalars({"classifier": {n: judge[n] for n in ("accuracy", "f1") if n in judge}})
    judged = verdicts(metrics)
    checks = {"checks": len(judged), "checks_passed": sum(v.ok is True for v in judged)}
    return {**found, **(checks if judged else {}), **top_level(metrics)}


def top_level(metrics: Mapping[str, Any], path: str = "") -> dict[str, int | float | str]:
    """Returns the numbers and texts of a mapping, without those of mappings in it."""
    plain = {name: v for name, v in metrics.items() if not isinstance(v, (Mapping, list))}
    words = {f"{path}.{n}" if path else n: v for n, v in plain.items() if isinstance(v, str)}
    return {**scalars(plain, path), **words}


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
