"""Plots the trials of all methods in one picture: forgetting against its cost, on the validation
prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearning.report import svg
from unlearning.report.axis import Axis, fit, write_tick
from unlearning.report.compare.results import Results
from unlearning.report.figures import write_number
from unlearning.report.sweep.folder import Job
from unlearning.report.sweep.measures import Measure

WIDTH, HEIGHT = 720, 420
COLOURS = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, WIDTH - 14, 14, HEIGHT - 46


@dataclass(frozen=True)
class Mark:
    """A trial with a place in the picture.

    Args:
        number: of its method.
        x: its cost.
        y: what it left to forget.
        picked: its setting is the one that was tested.
    """

    job: Job
    method: str
    number: int
    x: float
    y: float
    picked: bool


def find_marks(results: Results, cost: Measure) -> list[Mark]:
    """Returns the trials that have both figures, finite."""
    goal, found = results.main[0], []
    for number, arm in enumerate(results.arms):
        for job in arm.trials:
            x, y = cost.read(job.metrics).value, goal.read(job.metrics).value
            if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
                continue
            picked = arm.picked is not None and job.name == str(arm.picked.trial.job)
            found.append(Mark(job, arm.method, number, x, y, picked))
    return found


def front(marks: Sequence[Mark], goal: Measure, cost: Measure) -> list[Mark]:
    """Returns the trials that none beats in both, whatever their methods, from the cheapest on."""

    def place(mark: Mark) -> tuple[float, float]:
        return cost.worse(mark.x), goal.worse(mark.y)

    def beaten(mark: Mark) -> bool:
        mine = place(mark)
        others = (place(other) for other in marks)
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)

    return sorted((mark for mark in marks if not beaten(mark)), key=place)


def picture(results: Results, cost: Measure, bound: float) -> Markup | None:
    """Draws the trials, the front through them and the bound of the cost; None without trials."""
    marks, goal = find_marks(results, cost), results.main[0]
    if not marks:
        return None
    fold = 10.0 if cost.unit == "percent" else 0.0
    x = fit([*(m.x for m in marks), bound], _LEFT, _RIGHT, fold=fold, within=(cost.low, cost.high))
    y = fit([m.y for m in marks], _BOTTOM, _TOP, wished=[goal.low] if _has_floor(goal) else [])
    best = front(marks, goal, cost)
    parts = _axes(x, y, goal, cost)
    parts.append(svg.line(x(bound), _TOP, x(bound), _BOTTOM, "budget", "the budget"))
    parts.append(svg.path(_staircase(best, x, y), "front-line"))
    for mark in sorted(marks, key=lambda m: (m.picked, m in best)):  # the picked ones on top
        parts.append(_drawn(mark, mark in best, x, y, _told(mark, goal, cost)))
    parts += _names([mark for mark in marks if mark.picked], x, y)
    said = f"{goal.label} against {cost.in_words}, {len(marks)} trials. "
    said += " ".join(_told(mark, goal, cost) + "." for mark in marks if mark.picked)
    return svg.picture(parts, WIDTH, HEIGHT, said)


def _has_floor(goal: Measure) -> bool:
    return math.isfinite(goal.low) and not goal.more_is_better


def _axes(x: Axis, y: Axis, goal: Measure, cost: Measure) -> list[Markup]:
    parts = []
    for tick in y.ticks():
        parts.append(svg.line(_LEFT, y(tick), _RIGHT, y(tick), "grid"))
        parts.append(svg.text(_LEFT - 7, y(tick) + 4, write_tick(tick, goal.unit), anchor="end"))
    for tick in x.ticks(6):
        parts.append(svg.line(x(tick), _TOP, x(tick), _BOTTOM, "zero" if tick == 0 else "grid"))
        parts.append(svg.text(x(tick), _BOTTOM + 16, write_tick(tick, cost.unit)))
    across, up = (_better(measure) for measure in (cost, goal))
    middle = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
    parts.append(svg.text(middle[0], HEIGHT - 8, f"{cost.short} ({across})", "axis"))
    parts.append(svg.upright(13, middle[1], f"{goal.short} ({up})"))
    return parts


def _better(measure: Measure) -> str:
    return "more is better →" if measure.more_is_better else "← less is better"


def _staircase(best: Sequence[Mark], x: Axis, y: Axis) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for mark in best:
        points += [(x(mark.x), points[-1][1])] if points else []
        points.append((x(mark.x), y(mark.y)))
    return points


def _drawn(mark: Mark, on_front: bool, x: Axis, y: Axis, told: str) -> Markup:
    across, down = x(mark.x), y(mark.y)
    parts = [svg.circle(across, down, 5.0 if mark.picked else 3.5, "dot", told)]
    if mark.picked:
        parts.append(svg.circle(across, down, 9.0, "ring"))
    style = f"trial m{mark.number % COLOURS}{' front' if on_front else ''}"
    return svg.group(parts, style + (" picked" if mark.picked else ""), int(mark.job.name))


def _names(picked: Sequence[Mark], x: Axis, y: Axis) -> list[Markup]:
    """Writes the methods beside their picked trials, one below another where these are close."""
    parts: list[Markup] = []
    written: list[tuple[float, float]] = []
    for mark in sorted(picked, key=lambda m: y(m.y)):
        across, down = x(mark.x), y(mark.y) + 4
        while any(abs(across - a) < 120 and abs(down - b) < 14 for a, b in written):
            down += 14
        written.append((across, down))
        left = across > (_LEFT + _RIGHT) / 2
        side, anchor = (-13, "end") if left else (13, "start")
        style = f"letter m{mark.number % COLOURS}"
        parts.append(svg.text(across + side, down, mark.method, style, anchor))
    return parts


def _told(mark: Mark, goal: Measure, cost: Measure) -> str:
    told = (
        f"{m.in_words} {write_number(value, m.unit, m.difference)}"
        for m, value in ((goal, mark.y), (cost, mark.x))
    )
    return f"{mark.method}, job {mark.job.name}: {', '.join(told)}"
