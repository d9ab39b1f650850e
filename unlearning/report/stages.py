"""The models that a run has measured, and their names.

Without fine-tuning there are two, before and after. A run that teaches a book first has a third,
the original model, which never saw it; what was kept and what was lost is judged from that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearning.report.figures import Figure, lookup, prompt_sets, section


@dataclass(frozen=True)
class Stage:
    """One measured model.

    Args:
        key: its section of `metrics.json`.
        label: over a column and beside an answer.
        legend: of the plots.
        style: its class in the page; by default the key.
    """

    key: str
    label: str
    legend: str
    style: str = ""

    @property
    def css(self) -> str:
        return self.style or self.key


_TWO = (Stage("before", "Before", "before"), Stage("after", "After", "after unlearning"))
_THREE = (
    Stage("original", "Original", "original model"),
    Stage("before", "Fine-tuned", "fine-tuned, before unlearning"),
    Stage("after", "Unlearned", "after unlearning"),
)


_ORACLE = Stage("oracle", "Oracle", "retrained without the forget set")
_KNOWN = {stage.key for stage in (*_THREE, _ORACLE)}


def models(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the names of the measured models; empty in a file of version 0.4."""
    found = metrics.get("models")
    return [str(name) for name in found] if isinstance(found, list) else []


def has_original(metrics: Mapping[str, Any]) -> bool:
    """Whether the model before fine-tuning was measured."""
    return bool(section(metrics, "original"))


def has_book(metrics: Mapping[str, Any]) -> bool:
    """Whether running text was to be forgotten."""
    return "copyright" in prompt_sets(metrics).values()


def stages(metrics: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Returns the measured models in the order of the run."""
    names = models(metrics)
    if evaluated := section(metrics, "evaluated"):
        return tuple(_evaluated(name, str(evaluated.get(name, ""))) for name in names)
    if names and not set(names) <= _KNOWN:
        styles = ["after"] if len(names) == 1 else ["before", "after", "original"]
        styled = zip(names, [*styles, *["original"] * len(names)], strict=False)
        return tuple(Stage(name, name, name, style) for name, style in styled)
    usual = _THREE if has_original(metrics) else _TWO
    if _ORACLE.key not in names:
        return usual
    known = {stage.key: stage for stage in (*usual, _ORACLE)}
    return tuple(known[name] for name in names)


def _evaluated(key: str, model: str) -> Stage:
    """One of the models of `unlearn evaluate`, whose legend says which it is."""
    style = "after" if key == "model" else key
    return Stage(key, key.capitalize(), f"{key}: {model}", style)


def before_and_after(metrics: Mapping[str, Any]) -> bool:
    """Whether a model was changed in between, so that the change can be judged."""
    return not models(metrics) or {"before", "after"} <= set(models(metrics))


def start(metrics: Mapping[str, Any]) -> str:
    """Returns the model whose abilities should be kept."""
    return "original" if has_original(metrics) else "before"


def since_start(metrics: Mapping[str, Any], prompt_set: str, metric: str) -> Figure:
    """Returns the change of a metric since that model, with its interval."""
    return lookup(metrics, changes(metrics), prompt_set, metric)


def changes(metrics: Mapping[str, Any]) -> str:
    """Returns the section of the changes since that model."""
    return "change_from_original" if has_original(metrics) else "change"
