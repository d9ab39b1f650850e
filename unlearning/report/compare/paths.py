"""Figures of `metrics.json` by their paths, as a goal or a budget names them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unlearning.report.figures import Figure, figure, lookup
from unlearning.report.sets import finetuned, held_out, set_facts
from unlearning.report.specs import spec
from unlearning.report.sweep.measures import BOUNDS, MEASURES, Measure

Metrics = Mapping[str, Any]


def figure_at(metrics: Metrics, path: str) -> Figure:
    """Returns the figure at a dotted path; empty where there is none."""
    node: Any = metrics
    for part in path.split("."):
        if not isinstance(node, Mapping):
            return Figure()
        node = node.get(part)
    return figure(node)


def measure_of(path: str, trial: Metrics, more_is_better: bool) -> Measure:
    """Returns the measure that reads a path's figure in any run: of a trial on the validation
    prompts, of a test on those sets of the same kind that are held out there.

    Args:
        trial: `metrics.json` of a trial, which says of what kind the path's prompt set is.
    """
    section, _, key = path.partition(".")
    name, _, metric = key.rpartition("/")
    for known in MEASURES:
        stored = f"{section}/{key}"
        if known.more_is_better == more_is_better and stored in known.stored_names(trial):
            return known
    if not name:
        return _plain(path, more_is_better)
    kind = str(set_facts(trial, name).get("kind") or "")

    def sets(metrics: Metrics) -> list[str]:
        if not kind:
            return [name]
        return (finetuned if kind == "copyright" else held_out)(metrics, kind)

    shown = spec(trial, name, metric)
    difference = section.startswith("change")
    low, high = BOUNDS.get("" if difference else shown.unit, (-math.inf, math.inf))
    return Measure(
        f"{section}/{kind or name}/{metric}",
        f"{shown.label}, change" if difference else shown.label,
        shown.unit, low, high, sets,
        lambda metrics, each: lookup(metrics, section, each, metric),
        lambda metrics, each: f"{section}/{each}/{metric}",
        difference=difference, more_is_better=more_is_better,
    )  # fmt: skip


def _plain(path: str, more_is_better: bool) -> Measure:
    """Returns the measure of a figure that is of no prompt set, such as `seconds.unlearn`."""
    return Measure(
        path, path, "plain", -math.inf, math.inf,
        lambda metrics: [path], lambda metrics, _: figure_at(metrics, path), lambda *_: path,
        more_is_better=more_is_better,
    )  # fmt: skip
