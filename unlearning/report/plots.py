"""Draws line charts and interval charts as inline SVG, coloured by the page's style sheet.

A picture from a plotting library carries its colours with it and cannot follow the reader's light
or dark setting. These carry classes only (see `page.css`), scale with the page and hold their text
as text. Every panel is 340 units wide, about one phone screen, and the page lays them in a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearning.report import svg
from unlearning.report.axis import Axis, fit, write_tick
from unlearning.report.figures import DASH, Figure, Unit, write_interval, write_number
from unlearning.report.run_folder import Curve, finite

WIDTH = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 24
_MAX_POINTS = 600


@dataclass(frozen=True)
class Line:
    """One curve of a line chart; `style` is a CSS class that gives it its colour."""

    name: str
    points: Curve
    style: str


@dataclass(frozen=True)
class Pair:
    """One row of an interval chart: the same figure of each model.

    Args:
        name: of the prompt set.
        stages: each model's CSS class and figure, in order.
    """

    name: str
    stages: tuple[tuple[str, Figure], ...]


def moving_mean(points: Curve, width: int) -> Curve:
    """Computes the centred mean of up to `width` neighbours; fewer at both ends."""
    half = width // 2
    smooth = []
    for index, (step, _) in enumerate(points):
        near = [value for _, value in points[max(0, index - half) : index + half + 1]]
        smooth.append((step, math.fsum(near) / len(near)))
    return smooth


def thin_out(points: Curve, most: int = _MAX_POINTS) -> Curve:
    """Keeps each bucket's lowest and highest point, so that no spike is lost."""
    if len(points) <= most:
        return points
    size = math.ceil(2 * len(points) / most)
    kept: Curve = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        ends = {min(bucket, key=lambda point: point[1]), max(bucket, key=lambda point: point[1])}
        kept.extend(sorted(ends))
    return kept


def line_chart(lines: Sequence[Line], description: str, height: int = 170) -> Markup:
    """Draws curves over the training step. Noisy curves are drawn thin, with their moving mean on
    top.

    Args:
        lines: the curves; values that are not finite are left out.
        description: what a reader who cannot see the picture is told.
        height: in units of the panel.
    """
    drawn = [(line, finite(line.points)) for line in lines]
    everything = [point for _, points in drawn for point in points]
    if not everything:
        return Markup('<p class="absent">{}</p>').format("No finite values to draw.")
    x = fit([step for step, _ in everything], _LEFT, WIDTH - _RIGHT, pad=0.0)
    y = fit([value for _, value in everything], height - _BOTTOM, _TOP, pad=0.06)
    parts = _axes(x, y, height)
    for line, points in drawn:
        noisy = len(points) > 40
        style = f"{line.style} {'raw' if noisy else 'curve'}"
        parts.append(_path(thin_out(points), x, y, style, line.name))
        if noisy:
            smooth = moving_mean(points, max(5, len(points) // 25))
            parts.append(_path(thin_out(smooth), x, y, f"{line.style} curve", line.name))
    return svg.picture(parts, WIDTH, height, description)


def interval_chart(pairs: Sequence[Pair], unit: Unit, description: str) -> Markup:
    """Draws the models' figures with their intervals, one row per prompt set.

    Args:
        pairs: the rows, from top to bottom.
        unit: of the figures; rates and BLEU have a fixed scale, so that panels can be compared.
        description: what a reader who cannot see the picture is told.
    """
    fixed = {"rate": [0.0, 1.0], "bleu": [0.0, 100.0]}.get(unit, [])
    shown = [figure for pair in pairs for _, figure in pair.stages]
    values = [
        v for f in shown for v in (f.value, f.low, f.high) if v is not None and math.isfinite(v)
    ]
    if not values:
        return Markup('<p class="absent">Not measured.</p>')
    most = max(len(pair.stages) for pair in pairs)
    row, left = 28 + 11 * most, 8
    height = row * len(pairs) + _BOTTOM
    x = fit([*fixed, *values], left, WIDTH - left, pad=0.0 if fixed else 0.08)
    parts = []
    for tick in x.ticks(5):
        parts.append(svg.line(x(tick), 4, x(tick), height - _BOTTOM, "grid"))
        # The outermost labels are turned inwards, or they would be cut off at the picture's edge.
        anchor = (
            "start" if x(tick) < left + 14 else "end" if x(tick) > WIDTH - left - 14 else "middle"
        )
        parts.append(svg.text(x(tick), height - 8, write_tick(tick, unit), "tick", anchor))
    for index, pair in enumerate(pairs):
        top = row * index
        name = shorten(pair.name, 30 if most == 2 else 18)  # three figures need more room
        parts.append(svg.text(left, top + 16, name, "label", "start", pair.name))
        parts.append(svg.text(WIDTH - left, top + 16, _course(pair, unit), "figure", "end"))
        for line, (style, measured) in enumerate(pair.stages):
            parts.append(_mark(measured, x, top + 29 + 11 * line, style, unit))
    return svg.picture(parts, WIDTH, height, description)


def _course(pair: Pair, unit: Unit) -> str:
    """Describes the figures in words, from the first measured model on.

    So is the oracle, which is no step on the way and would not fit beside the name.
    """
    figures = [measured.value for style, measured in pair.stages if style != "oracle"]
    while len(figures) > 1 and figures[0] is None:
        figures = figures[1:]
    return " → ".join(write_number(value, unit) for value in figures)


def shorten(text: str, most: int) -> str:
    """Cuts a long name; the full one stays as the element's title."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _axes(x: Axis, y: Axis, height: int) -> list[Markup]:
    floor = height - _BOTTOM
    parts = []
    for tick in y.ticks(4):
        style = "zero" if tick == 0 else "grid"
        parts.append(svg.line(_LEFT, y(tick), WIDTH - _RIGHT, y(tick), style))
        parts.append(svg.text(_LEFT - 6, y(tick) + 4, write_tick(tick), anchor="end"))
    for tick in x.ticks(5):
        parts.append(svg.text(x(tick), floor + 16, write_tick(tick)))
    return parts


def _path(points: Curve, x: Axis, y: Axis, style: str, name: str) -> Markup:
    places = [(x(step), y(value)) for step, value in points]
    if len(places) == 1:
        return svg.circle(*places[0], 2.5, style, name)
    return svg.path(places, style, name)


def _mark(shown: Figure, x: Axis, y: float, style: str, unit: Unit) -> Markup:
    """Draws a dot with its interval as a bar; nothing where there is no value."""
    if shown.value is None or not math.isfinite(shown.value):
        return Markup("")
    interval = write_interval(shown, unit) or DASH
    title = f"{style}: {write_number(shown.value, unit)}, 95 % interval {interval}"
    bar = Markup("")
    if shown.low is not None and shown.high is not None:
        bar = svg.line(x(shown.low), y, x(shown.high), y, f"bar {style}")
    return bar + svg.circle(x(shown.value), y, 4.5, f"dot {style}", title)
