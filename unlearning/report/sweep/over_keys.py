"""Shows the effect of each swept key: heat maps over pairs of numbers, curves over single keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from unlearning.report.figures import write_number
from unlearning.report.panels import Panel
from unlearning.report.sweep.heat import HeatMap, colour_scale, heat_map, pairs, tabular
from unlearning.report.sweep.measures import RISE, Measure
from unlearning.report.sweep.settings import Setting
from unlearning.report.sweep.spread import dot_map, response
from unlearning.report.sweep.swept import Key


@dataclass(frozen=True)
class Maps:
    """Two keys, and each measure over them: as tables, or as pictures if those would be empty."""

    pair: tuple[Key, Key]
    tables: tuple[HeatMap, ...] = ()
    pictures: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class OverKeys:
    """The pictures over all keys, and the scales that their colours share.

    Args:
        scales: measure, its best and its worst value.
        folded: the scale of perplexity is logarithmic in its upper part.
    """

    maps: tuple[Maps, ...]
    scales: tuple[tuple[Measure, str, str], ...]
    responses: tuple[Panel, ...]
    folded: bool


def over_keys(
    settings: Sequence[Setting], keys: Sequence[Key], measures: Sequence[Measure]
) -> OverKeys:
    """Draws the measures over the keys that differ within these settings."""
    present = [
        replace(key, values=tuple(v for v in key.values if any(s.of(key) == v for s in settings)))
        for key in keys
    ]
    live = [key for key in present if len(key.values) > 1]
    maps = tuple(_maps(settings, pair, measures) for pair in pairs(live))
    paired = {key.path for pair in pairs(live) for key in pair}
    responses = [
        Panel(measure.label, picture, f"over {key.label}")
        for key in live
        if key.path not in paired
        for measure in measures
        if (picture := response(settings, measure, key)) is not None
    ]
    scales = [scale for m in measures if (scale := _scale(settings, m))] if maps else []
    rise = colour_scale(settings, RISE)
    return OverKeys(maps, tuple(scales), tuple(responses), rise is not None and rise.fold > 0)


def _maps(settings: Sequence[Setting], pair: tuple[Key, Key], measures: Sequence[Measure]) -> Maps:
    if tabular(pair):
        return Maps(pair, tables=tuple(heat_map(settings, measure, pair) for measure in measures))
    drawn: list[tuple[Measure, Markup | None]] = [(m, dot_map(settings, m, pair)) for m in measures]
    return Maps(pair, pictures=tuple(Panel(m.label, p) for m, p in drawn if p is not None))


def _scale(settings: Sequence[Setting], measure: Measure) -> tuple[Measure, str, str] | None:
    axis = colour_scale(settings, measure)
    if axis is None:
        return None
    values = [v for v in (s.mean(measure).value for s in settings) if v is not None]
    ends = sorted(values, key=measure.worse)
    low, high = (write_number(v, measure.unit, measure.difference) for v in (ends[0], ends[-1]))
    return measure, low, high


def shown_over_keys(measures: Sequence[Measure], forget: Measure) -> list[Measure]:
    """Returns the measures that are drawn over keys: forgetting, and the perplexity that it
    costs."""
    return [measure for measure in measures if measure in (forget, RISE)]
