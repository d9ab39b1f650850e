"""How a metric is named, scaled and judged, as `metrics.json` declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearning import names_0_4
from unlearning.report.figures import Unit, section
from unlearning.report.sets import set_facts
from unlearning.report.stages import has_book

_SCALES: dict[str, Unit] = {"fraction": "rate", "percent": "percent", "BLEU": "bleu"}
_WANTED = {"higher": "higher is better", "lower": "lower is better"}


@dataclass(frozen=True)
class MetricSpec:
    """How one metric is shown on one prompt set.

    Args:
        label: what a table row is called.
        unit: scale of the stored value.
        wanted: which way is better, in words; "" where neither is.
        measured_in: the unit in words, where the figure does not show it.
    """

    label: str
    unit: Unit
    wanted: str = ""
    measured_in: str = ""

    @property
    def note(self) -> str:
        """The small print beside the label."""
        return ", ".join(filter(None, (self.measured_in, self.wanted)))


def spec(metrics: Mapping[str, Any], prompt_set: str, metric: str) -> MetricSpec:
    """Returns how to show a metric; one that nobody declared is shown under its own name."""
    label, unit = _declared(metrics, metric)
    if has_book(metrics):  # passages have no answers
        label = label.replace("the data set's answers", "the true text")
    directions = section(set_facts(metrics, prompt_set), "directions")
    declared = section(section(metrics, "metrics"), metric)
    direction = directions.get(metric, declared.get("direction"))  # a set may turn it round
    scale = _SCALES.get(unit.split(" ")[0], "plain")
    said = "" if scale != "plain" or unit == "plain" else unit.split(" (")[0]
    if said.lower() in label.lower():
        said = ""
    wanted = _WANTED.get(str(direction), str(direction or ""))
    return MetricSpec(label, scale, wanted, said)


def front(metrics: Mapping[str, Any], prompt_set: str) -> tuple[str, ...]:
    """Returns the metrics of a set that are always shown, with a dash where not measured.

    Empty where the set names none: then all are shown alike.
    """
    return tuple(map(str, set_facts(metrics, prompt_set).get("front") or ()))


def order(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the names of metrics in the order of tables."""
    return [*names_0_4.DECLARED, *section(metrics, "metrics")]


def _declared(metrics: Mapping[str, Any], metric: str) -> tuple[str, str]:
    found = section(section(metrics, "metrics"), metric)
    if found:
        return str(found.get("label") or metric), str(found.get("unit") or "")
    return names_0_4.declared(metric)
