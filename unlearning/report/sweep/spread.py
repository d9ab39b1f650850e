"""Plots a measure over swept values where a table of two keys would be mostly empty."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from unlearning.report import svg
from unlearning.report.axis import Axis, fit, write_tick
from unlearning.report.figures import write_number
from unlearning.report.plots import shorten
from unlearning.report.sweep.heat import MOST, colour_scale, level
from unlearning.report.sweep.measures import RISE, Measure
from unlearning.report.sweep.setting_marks import describe, drawable
from unlearning.report.sweep.settings import Setting
from unlearning.report.sweep.swept import Key
from unlearning.report.sweep.words import as_number, show

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, WIDTH - 14, 14, HEIGHT - 46


class _Values:
    """An axis of swept values: to scale where they are many numbers, else evenly spaced."""

    def __init__(self, key: Key, values: Sequence[str], start: float, end: float) -> None:
        numbers = [as_number(value) for value in values]
        known = [number for number in numbers if number is not None]
        self.scaled = len(values) > MOST and len(known) == len(values)
        # A search draws learning rates over orders of magnitude.
        self.log = self.scaled and min(known) > 0 and max(known) >= 30 * min(known)
        self.values = list(values)
        places = [self._bent(value) for value in values]
        self.axis: Axis = fit(places, start, end, pad=0.04 if self.scaled else 0.12)

    def _bent(self, value: str) -> float:
        if not self.scaled:
            return float(self.values.index(value))
        return math.log10(float(value)) if self.log else float(value)

    def __call__(self, value: str) -> float:
        return self.axis(self._bent(value))

    def ticks(self) -> list[tuple[float, str]]:
        """Yields positions and labels."""
        if not self.scaled:
            width = max(4, 44 // len(self.values))
            return [(self(value), shorten(show(value), width)) for value in self.values]
        if not self.log:
            return [(self.axis(tick), write_tick(tick)) for tick in self.axis.ticks()]
        low, high = self.axis.low, self.axis.high
        steps = (1, 2, 5) if high - low < 2 else (1, 3) if high - low < 3 else (1,)
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [math.log10(step) + power for power in powers for step in steps]
        return [(self.axis(tick), f"{10**tick:.3g}") for tick in ticks if low <= tick <= high]


def dot_map(settings: Sequence[Setting], measure: Measure, pair: tuple[Key, Key]) -> Markup | None:
    """Draws every setting at its two values, coloured by the measure."""
    across, down = pair
    placed = [s for s in settings if s.mean(measure).value is not None]
    if not placed:
        return None
    x, y = _Values(across, across.values, _LEFT, _RIGHT), _Values(down, down.values, _BOTTOM, _TOP)
    parts = [*_across(x, across.label), *_up(y.ticks(), down.label)]
    scale = colour_scale(settings, measure)
    for setting in placed:
        value = setting.mean(measure).value
        assert value is not None
        told = f"{setting.names}: {write_number(value, measure.unit, measure.difference)}"
        style = f"field h{level(value, measure, scale)}"
        parts.append(svg.circle(x(setting.of(across)), y(setting.of(down)), 6.5, style, told))
    said = f"{measure.label} of {len(placed)} settings over {across.label} and {down.label}."
    return svg.picture(parts, WIDTH, HEIGHT, said)


def response(settings: Sequence[Setting], measure: Measure, key: Key) -> Markup | None:
    """Draws the measure of every setting over one key, with intervals and the line through the
    means.

    The means are over the settings that share the value.
    """
    placed = [s for s in settings if drawable(s.mean(measure))]
    if not placed:
        return None
    x = _Values(key, key.values, _LEFT, _RIGHT)
    figures = [s.mean(measure).figure for s in placed]
    means = [figure.value for figure in figures if figure.value is not None]
    ends = [end for f in figures for end in (f.low, f.high) if end is not None]
    bend = 10.0 if measure is RISE else 0.0
    y = fit([*means, 0.0], _BOTTOM, _TOP, fold=bend, wished=[*filter(math.isfinite, ends)])
    ticks = [(y(tick), write_tick(tick, measure.unit)) for tick in y.ticks()]
    parts = [*_across(x, key.label), *_up(ticks, measure.short)]
    if key.numeric:
        parts.append(svg.path(_course(placed, measure, key, x, y), "front-line"))
    for setting in placed:
        mean, across = setting.mean(measure), x(setting.of(key))
        assert mean.value is not None
        if mean.figure.low is not None and mean.figure.high is not None:
            low, high = y(mean.figure.low), y(mean.figure.high)
            parts.append(svg.line(across, low, across, high, f"bar {mean.over}"))
        parts.append(svg.circle(across, y(mean.value), 4.5, "dot", describe(setting, measure)))
    said = f"{measure.label} over {key.label}. " + ". ".join(describe(s, measure) for s in placed)
    return svg.picture([svg.group(parts, "mark front", 0)], WIDTH, HEIGHT, said)


def _course(
    placed: Sequence[Setting], measure: Measure, key: Key, x: _Values, y: Axis
) -> list[tuple[float, float]]:
    points = []
    for value in key.values:
        means = [s.mean(measure).value for s in placed if s.of(key) == value]
        known = [mean for mean in means if mean is not None]
        if known:
            points.append((x(value), y(math.fsum(known) / len(known))))
    return points


def _across(x: _Values, label: str) -> list[Markup]:
    parts = []
    for place, said in x.ticks():
        parts.append(svg.line(place, _TOP, place, _BOTTOM, "grid"))
        parts.append(svg.text(place, _BOTTOM + 16, said))
    return [*parts, svg.text((_LEFT + _RIGHT) / 2, HEIGHT - 8, label, "axis")]


def _up(ticks: Sequence[tuple[float, str]], label: str) -> list[Markup]:
    parts = []
    for place, said in ticks:
        parts.append(svg.line(_LEFT, place, _RIGHT, place, "grid"))
        parts.append(svg.text(_LEFT - 7, place + 4, said, anchor="end"))
    return [*parts, svg.upright(13, (_TOP + _BOTTOM) / 2, label)]
