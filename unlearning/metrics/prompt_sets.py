"""The metrics of a prompt set, what they need of a model, and their description in
`metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unlearning.metrics.kinds import KINDS, metrics_of_kind
from unlearning.metrics.metric import Metric
from unlearning.types import PromptSet


def metrics_of(prompt_set: PromptSet) -> tuple[Metric, ...]:
    """Returns the metrics of a set: its kind's, then its own. A set with neither has the general
    ones."""
    own = tuple(prompt_set.metrics)
    if own and not prompt_set.kind:
        return own
    return (*metrics_of_kind(prompt_set.kind), *own)


def needs_of(prompt_set: PromptSet) -> frozenset[str]:
    """Returns what a set's metrics need of the model, see `metric`."""
    return frozenset().union(*(metric.needs for metric in metrics_of(prompt_set)))


def is_judged(prompt_set: PromptSet) -> bool:
    """Whether the set is about harm: of that kind, or with a metric of its own that needs a judge.

    Other sets have their harmful rates only where there is a classifier anyway.
    """
    own = any("harm" in metric.needs for metric in prompt_set.metrics)
    return own or prompt_set.kind == "harmful"


def described(
    sets: Sequence[PromptSet], metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, dict[str, Any]]:
    """Returns `prompt_sets` of `metrics.json`, by name.

    Args:
        metrics: of each set, those added to `metrics_of` as well.

    Returns:
        `kind`, `split`, `source`, and `part` where only a part of the split is asked; `front`:
        metrics that tables put first (all, where empty);
        `directions`: which way is better on this set; `generated`: whether it was answered.
    """
    found = {}
    for each in sets:
        directions = {m.name: m.direction for m in metrics[each.name]}
        for metric in metrics[each.name]:
            directions.update({name: c.direction for name, c in metric.changes.items()})
        known = [name for name in KINDS[each.kind].front if name in directions]
        front = [*known, *(metric.name for metric in each.metrics)]
        found[each.name] = {
            "kind": each.kind,
            "split": each.split,
            **({"part": each.part} if each.part else {}),
            "source": each.source,
            "front": front,
            "directions": directions,
            "generated": bool(needs_of(each) & {"completion", "harm"}),
        }
    return found
