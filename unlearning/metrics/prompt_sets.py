"""What a prompt set measures, what that needs of a model, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unlearning.metrics.kinds import KINDS, metrics_of_kind
from unlearning.metrics.metric import Metric
from unlearning.types import PromptSet


def metrics_of(prompt_set: PromptSet) -> tuple[Metric, ...]:
    """The metrics of a set: its kind's, then its own. One with neither has the general ones."""
    own = tuple(prompt_set.metrics)
    if own and not prompt_set.kind:
        return own
    return (*metrics_of_kind(prompt_set.kind), *own)


def needs_of(prompt_set: PromptSet) -> frozenset[str]:
    """What its metrics need of the model, see `metric`."""
    return frozenset().union(*(metric.needs for metric in metrics_of(prompt_set)))


def described(
    sets: Sequence[PromptSet], metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, dict[str, Any]]:
    """`prompt_sets` of `metrics.json`, by name.

    Args:
        metrics: of each set, those added to `metrics_of` as well.

    Returns:
        `kind`, `split`, `source`; `front`: metrics that tables put first (all, where empty);
        `directions`: which way is better on this set; `generated`: whether it was answered.
    """
    found = {}
    for each in sets:
        directions = {m.name: m.direction for m in metrics[each.name]}
        for metric in metrics[each.name]:
            directions.update({name: c.direction for name, c in metric.changes.items()})
        front = [*KINDS[each.kind].front, *(metric.name for metric in each.metrics)]
        found[each.name] = {
            "kind": each.kind,
            "split": each.split,
            "source": each.source,
            "front": front,
            "directions": directions,
            "generated": bool(needs_of(each) & {"completion", "harm"}),
        }
    return found
