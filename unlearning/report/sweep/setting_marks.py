"""Draws one setting in a picture: its mark, its intervals and its tooltip."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearning.report import svg
from unlearning.report.axis import Axis
from unlearning.report.figures import Unit, write_interval, write_number
from unlearning.report.sweep.measures import Measure, starting_points
from unlearning.report.sweep.settings import Mean, Setting

_START = {"original": "original model", "before": "before unlearning"}


@dataclass(frozen=True)
class Frame:
    """The axes of a picture: cost to the right, what is left to forget upwards."""

    cost: Measure
    forget: Measure
    x: Axis
    y: Axis

    def place(self, setting: Setting) -> tuple[float, float]:
        """Returns the position of a setting's means."""
        cost, forget = setting.mean(self.cost).value, setting.forgetting.value
        assert cost is not None and forget is not None
        return self.x(cost), self.y(forget)

    def mark(self, setting: Setting, front: bool, bars: bool) -> Markup:
        """Draws a dot, with its intervals where they are wanted."""
        across, down = self.place(setting)
        parts = []
        if bars:
            parts += self._bars(setting, across, down)
        title = describe(setting, self.cost)
        parts.append(svg.circle(across, down, 4.5 if front else 3.5, "dot", title))
        return svg.group(parts, "mark front" if front else "mark", setting.number)

    def letter(self, setting: Setting, letter: str) -> Markup:
        """Draws the setting's name beside its mark, on the side where there is room."""
        across, down = self.place(setting)
        right = across < max(self.x.start, self.x.end) - 22
        side, anchor = (7, "start") if right else (-7, "end")
        return svg.text(across + side, down - 6, letter, "letter", anchor)

    def start(self, stage: str, rise: float, value: float) -> Markup:
        """Draws the mark of a model before unlearning."""
        title = f"{_START[stage]}: {write_number(value, self.forget.unit)}"
        return svg.diamond(self.x(rise), self.y(value), 5.5, f"start {stage}", title)

    def _bars(self, setting: Setting, across: float, down: float) -> list[Markup]:
        parts = []
        cost, forget = setting.mean(self.cost), setting.forgetting
        if cost.figure.low is not None and cost.figure.high is not None:
            ends = self.x(cost.figure.low), self.x(cost.figure.high)
            parts.append(svg.line(ends[0], down, ends[1], down, f"bar {cost.over}"))
        if forget.figure.low is not None and forget.figure.high is not None:
            ends = self.y(forget.figure.low), self.y(forget.figure.high)
            parts.append(svg.line(across, ends[0], across, ends[1], f"bar {forget.over}"))
        return parts


def describe(setting: Setting, cost: Measure) -> str:
    """Describes a setting and its results in a line."""
    told = [_told(m.label, setting.mean(m), m.unit, m.difference) for m in (setting.forget, cost)]
    return f"{setting.names}: {'; '.join(told)}"


def _told(label: str, mean: Mean, unit: Unit, difference: bool) -> str:
    interval = write_interval(mean.figure, unit, difference)
    inside = f" ({interval} over {mean.told})" if interval and mean.over else ""
    return f"{label} {write_number(mean.value, unit, difference)}{inside}"


def starts(settings: Sequence[Setting], forget: Measure) -> Mapping[str, tuple[float, float]]:
    """Returns the models before unlearning, each the mean over all runs."""
    found: dict[str, list[tuple[float, float]]] = {}
    for job in (job for setting in settings for job in setting.runs):
        for stage, point in starting_points(job.metrics, forget).items():
            found.setdefault(stage, []).append(point)
    return {
        stage: (statistics.fmean(p[0] for p in points), statistics.fmean(p[1] for p in points))
        for stage, points in found.items()
    }


def drawable(mean: Mean) -> bool:
    """Whether a setting has a place on an axis."""
    return mean.value is not None and math.isfinite(mean.value)
