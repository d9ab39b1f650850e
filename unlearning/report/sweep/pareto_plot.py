"""Plots forgetting against its cost: one mark per setting, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from unlearning.report import svg
from unlearning.report.axis import Axis, fit, write_tick
from unlearning.report.sweep.measures import RISE, Measure
from unlearning.report.sweep.setting_marks import Frame, describe, drawable, starts
from unlearning.report.sweep.settings import Setting

WIDTH, HEIGHT = 460, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, WIDTH - 14, 14, HEIGHT - 46
_CROWDED = 30
"""From so many settings on, only those on the front carry their intervals."""


def pareto_plot(
    settings: Sequence[Setting],
    front: Sequence[Setting],
    cost: Measure,
    letters: Mapping[int, str],
    budget: float | None = None,
) -> Markup | None:
    """Draws the settings' means with their intervals; None where there is nothing to draw.

    Args:
        front: of these the ones that none beats.
        letters: setting's number -> the letter that the table beside it calls it by.
        budget: of the cost, drawn as a line that the page's script can move.
    """
    placed = [s for s in settings if drawable(s.forgetting) and drawable(s.mean(cost))]
    if not placed:
        return None
    forget = placed[0].forget
    before = starts(placed, forget) if cost is RISE else {}
    shown = [*before.values(), *([] if budget is None else [(budget, forget.low)])]
    frame = _frame(placed, front, cost, shown)
    x = frame.x
    parts = _axes(frame)
    if budget is not None:
        parts.append(svg.line(x(budget), _TOP, x(budget), _BOTTOM, "budget"))
    parts.append(svg.path(_staircase(front, frame), "front-line"))
    parts += [frame.start(stage, *where) for stage, where in before.items()]
    on_front = {s.number for s in front}
    for setting in sorted(placed, key=lambda s: s.number in on_front):  # the front on top
        bars = setting.number in on_front or len(placed) < _CROWDED
        parts.append(frame.mark(setting, setting.number in on_front, bars))
    parts += _letters(front, frame, letters)
    said = _said(placed, front, cost, letters)
    return svg.picture(parts, WIDTH, HEIGHT, said, _scale(x) if budget is not None else {})


def not_drawn(settings: Sequence[Setting], cost: Measure) -> str:
    """Describes how many settings have no place in the picture, and why."""
    means = [(s.forgetting.value, s.mean(cost).value) for s in settings]
    unknown = sum(a is None or b is None for a, b in means)
    endless = sum(b is not None and math.isinf(b) for a, b in means if a is not None)
    told = [f"{endless} with a perplexity that is not finite"] if endless else []
    told += [f"{unknown} not measured"] if unknown else []
    return f"Not drawn: {', '.join(told)}." if told else ""


def _frame(
    placed: Sequence[Setting],
    front: Sequence[Setting],
    cost: Measure,
    shown: Sequence[tuple[float, float]],
) -> Frame:
    """Fits the axes to the settings and to what else is shown."""
    forget = placed[0].forget
    across = [*_means(placed, cost), *(rise for rise, _ in shown)]
    up = [*_means(placed, forget), *(value for _, value in shown), forget.low]
    x = fit(
        across,
        _LEFT,
        _RIGHT,
        fold=10.0 if cost is RISE else 0.0,
        within=(cost.low, cost.high),
        wished=_ends(front, cost),
    )
    return Frame(cost, forget, x, fit(up, _BOTTOM, _TOP, wished=_ends(front, forget)))


def _means(settings: Sequence[Setting], measure: Measure) -> list[float]:
    found = [s.mean(measure).value for s in settings]
    return [value for value in found if value is not None]


def _ends(settings: Sequence[Setting], measure: Measure) -> list[float]:
    figures = [s.mean(measure).figure for s in settings]
    found = [end for figure in figures for end in (figure.low, figure.high)]
    return [value for value in found if value is not None and math.isfinite(value)]


def _axes(frame: Frame) -> list[Markup]:
    cost, forget, x, y = frame.cost, frame.forget, frame.x, frame.y
    parts = []
    for tick in y.ticks():
        parts.append(svg.line(_LEFT, y(tick), _RIGHT, y(tick), "grid"))
        parts.append(svg.text(_LEFT - 7, y(tick) + 4, write_tick(tick, forget.unit), anchor="end"))
    for tick in x.ticks(6):
        parts.append(svg.line(x(tick), _TOP, x(tick), _BOTTOM, "zero" if tick == 0 else "grid"))
        parts.append(svg.text(x(tick), _BOTTOM + 16, write_tick(tick, cost.unit)))
    better = "more is better →" if cost.more_is_better else "← less is better"
    said = f"{cost.short} ({better})"
    parts.append(svg.text((_LEFT + _RIGHT) / 2, HEIGHT - 8, said, "axis"))
    parts.append(svg.upright(13, (_TOP + _BOTTOM) / 2, f"← {forget.label} (less is better)"))
    return parts


def _staircase(front: Sequence[Setting], frame: Frame) -> list[tuple[float, float]]:
    """Draws the front in steps from the cheapest setting to the one that forgets most."""
    points: list[tuple[float, float]] = []
    cost = frame.cost
    for setting in sorted(front, key=lambda s: cost.worse(s.mean(cost).value or 0.0)):
        across, down = frame.place(setting)
        points += [(across, points[-1][1])] if points else []
        points.append((across, down))
    return points


def _letters(front: Sequence[Setting], frame: Frame, letters: Mapping[int, str]) -> list[Markup]:
    """Chooses the marks that are labelled; the others are named in the table and in tooltips."""
    written: list[tuple[float, float]] = []
    parts = []
    for setting in front:
        across, down = frame.place(setting)
        if all(abs(across - x) > 14 or abs(down - y) > 14 for x, y in written):
            written.append((across, down))
            parts.append(frame.letter(setting, letters[setting.number]))
    return parts


def _said(
    placed: Sequence[Setting], front: Sequence[Setting], cost: Measure, letters: Mapping[int, str]
) -> str:
    told = ". ".join(f"{letters[s.number]}: {describe(s, cost)}" for s in front)
    against = f"{placed[0].forget.label} against {cost.label}"
    return f"{against}, {len(placed)} settings. On the front: {told}."


def _scale(x: Axis) -> dict[str, float]:
    """Returns what the page's script needs to move the budget's line."""
    ends = {"data-low": x.low, "data-high": x.high, "data-start": x.start, "data-end": x.end}
    return {**ends, "data-fold": x.fold}
