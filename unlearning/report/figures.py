"""A measured figure with its interval, and its formatting.

Rates are stored as fractions and shown as percentages; BLEU is 0..100; perplexity is per token.
A figure that was not measured is shown as a dash, never as zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"  # a figure is never parted from its unit
Unit = Literal["rate", "percent", "bleu", "plain"]


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; None stands for "not measured", NaN included.

    Args:
        n: answers that it is over.
        method: of the interval; None where there is none, and in files of version 0.4.
        clusters: different prompts, where some repeat.
        mcnemar_p: of a rate's change.
        stated: whether the file has a place for an interval, which may be empty.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    method: str | None = None
    clusters: int | None = None
    mcnemar_p: float | None = None
    stated: bool = field(default=False, compare=False)

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None

    @property
    def prompts(self) -> int | None:
        """How many different prompts it is over."""
        return self.n if self.clusters is None else self.clusters


def number(raw: object) -> float | None:
    """Returns the number in a JSON value, or None for null, NaN and everything else."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or math.isnan(raw):
        return None
    return float(raw)


def figure(raw: object) -> Figure:
    """Reads a figure from JSON: a mapping with value, low, high and n, a bare number, or null."""
    if not isinstance(raw, Mapping):
        return Figure(number(raw))
    method = raw.get("method")
    return Figure(
        number(raw.get("value")), number(raw.get("low")), number(raw.get("high")),
        _count(raw.get("n")), None if method is None else str(method), _count(raw.get("clusters")),
        number(raw.get("mcnemar_p")), stated="low" in raw,
    )  # fmt: skip


def _count(raw: object) -> int | None:
    count = number(raw)
    return int(count) if count is not None and math.isfinite(count) else None


def section(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns a nested mapping of `metrics.json`; empty where it is missing or null."""
    found = mapping.get(key)
    return found if isinstance(found, Mapping) else {}


def lookup(metrics: Mapping[str, Any], stage: str, prompt_set: str, metric: str) -> Figure:
    """Returns the figure of one metric on one prompt set; stage is a section of the file, as
    `after`."""
    return figure(section(metrics, stage).get(f"{prompt_set}/{metric}"))


def prompt_sets(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Returns name -> kind, in the file's order; a set known from a metric's key only has kind
    ``""``."""
    kinds = {
        name: str((raw.get("kind") if isinstance(raw, Mapping) else raw) or "")
        for name, raw in section(metrics, "prompt_sets").items()
    }
    models = metrics.get("models")
    named = map(str, models) if isinstance(models, list) else ("before", "after", "original")
    for part in (*named, "change"):
        for key in section(metrics, part):
            if "/" in key:
                kinds.setdefault(key.rsplit("/", 1)[0], "")
    return kinds


def plain(value: float) -> str:
    """Formats a number with four significant digits at most, without an exponent where people
    read it."""
    size = abs(value)
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if size >= 1e6 or 0 < size < 1e-3:
        text = f"{value:.3g}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    return text.replace("-", MINUS)


def write_number(value: float | None, unit: Unit, difference: bool = False) -> str:
    """Formats a value with its unit; a difference carries its sign, and a rate's is in points."""
    if value is None:
        return DASH
    sign = "+" if difference and value > 0 else ""
    if math.isinf(value):
        return sign + plain(value)
    if unit == "rate":
        text = f"{100 * value:.1f}{NBSP}" + ("pts" if difference else "%")
    elif unit == "percent":
        text = (f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}") + f"{NBSP}%"
    elif unit == "bleu":
        text = f"{value:.1f}"
    else:
        text = plain(value)
    text = text.replace("-", MINUS)
    if text.startswith(f"{MINUS}0.0{NBSP}") or text == f"{MINUS}0.0":
        text = text.removeprefix(MINUS)
    return sign + text


def write_interval(shown: Figure, unit: Unit, difference: bool = False) -> str:
    """Formats the interval as ``low to high`` in the value's unit, or "" where there is none."""
    if not shown.has_interval:
        return ""
    low = write_number(shown.low, unit, difference)
    high = write_number(shown.high, unit, difference)
    for tail in (f"{NBSP}%", f"{NBSP}pts"):  # the unit once, at the end
        if low.endswith(tail) and high.endswith(tail):
            low = low.removesuffix(tail)
    return f"{low} to {high}"
