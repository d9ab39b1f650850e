from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from unlearning.report.sweep.front import pareto_front
from unlearning.report.sweep.measures import ALIKE, BOOK, HARM, RISE
from unlearning.report.sweep.pareto_plot import HEIGHT, WIDTH, not_drawn, pareto_plot
from unlearning.report.sweep.spread import dot_map, response

from .sweeps import FORGET, book_metrics, grid, harm_metrics


def draw(settings, cost=RISE, budget=None):
    front = pareto_front(settings, cost)
    letters = {s.number: chr(65 + n) for n, s in enumerate(front)}
    return front, ElementTree.fromstring(pareto_plot(settings, front, cost, letters, budget) or "")


def dots(svg) -> dict[str, tuple[float, float]]:
    """Setting -> the place of its mark."""
    found = {}
    for mark in svg.iter("g"):
        circle = mark.find("circle")
        found[mark.get("data-setting", "")] = (
            float(circle.get("cx", "")),
            float(circle.get("cy", "")),
        )
    return found


def every_place(svg) -> list[tuple[float, float]]:
    lines = [(e.get("x1"), e.get("y1")) for e in svg.iter("line")]
    lines += [(e.get("x2"), e.get("y2")) for e in svg.iter("line")]
    circles = [(e.get("cx"), e.get("cy")) for e in svg.iter("circle")]
    return [(float(x), float(y)) for x, y in lines + circles]


@pytest.mark.parametrize("cost", [RISE, ALIKE])
def test_every_setting_has_a_mark_and_all_stays_inside(settings_of, cost):
    settings = settings_of(grid())
    front, svg = draw(settings, cost, 5.0 if cost is RISE else None)
    assert set(dots(svg)) == {str(n) for n in range(1, 10)}
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in every_place(svg))
    marked = {m.get("data-setting") for m in svg.iter("g") if "front" in m.get("class", "")}
    assert marked == {str(s.number) for s in front}
    assert "9 settings" in svg.get("aria-label", "")


def test_marks_lie_in_the_order_of_their_figures(settings_of):
    found = [
        ([f"{FORGET}={n}"], harm_metrics(h, r), "finished")
        for n, (h, r) in enumerate([(0.5, 1.0), (0.2, 3.0), (0.0, 9.0)])
    ]
    _, svg = draw(settings_of(found))
    places = [dots(svg)[str(n)] for n in (1, 2, 3)]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # less harm is further down


def test_the_line_of_the_front_takes_no_shortcut(settings_of):
    found = [
        ([f"{FORGET}={n}"], harm_metrics(h, r), "finished")
        for n, (h, r) in enumerate([(0.5, 1.0), (0.2, 3.0)])
    ]
    _, svg = draw(settings_of(found))
    (line,) = (p for p in svg.iter("path") if p.get("class") == "front-line")
    points = [tuple(map(float, p.split())) for p in line.get("d", "")[1:].split("L")]
    first, second = dots(svg)["1"], dots(svg)["2"]
    assert points == [first, (second[0], first[1]), second]


def test_bars_say_whether_they_are_over_seeds_or_prompts(settings_of):
    seeded = draw(settings_of(grid()))[1]
    assert {e.get("class") for e in seeded.iter("line") if "bar" in e.get("class", "")} == {
        "bar seeds"
    }


def test_bars_of_single_runs_are_over_prompts(settings_of):
    single = draw(settings_of(grid(seeds=(0,))))[1]
    assert {e.get("class") for e in single.iter("line") if "bar" in e.get("class", "")} == {
        "bar prompts"
    }


def test_a_collapsed_run_does_not_push_the_others_together(settings_of):
    rises = (0.5, 1.0, 2.0, 4.0, 6.0, 9000.0)
    found = [
        ([f"{FORGET}={n}"], harm_metrics(0.5 - n / 12, rise), "finished")
        for n, rise in enumerate(rises)
    ]
    _, svg = draw(settings_of(found))
    assert dots(svg)["5"][0] - dots(svg)["1"][0] > 15


def test_what_has_no_place_is_told(settings_of):
    found = [
        ([f"{FORGET}=1"], harm_metrics(0.1, math.inf), "finished"),
        ([f"{FORGET}=2"], harm_metrics(None, 1.0), "finished"),
        ([f"{FORGET}=3"], harm_metrics(0.1, 2.0), "finished"),
    ]
    settings = settings_of(found)
    assert list(dots(draw(settings)[1])) == ["3"]
    assert not_drawn(settings, RISE) == (
        "Not drawn: 1 with a perplexity that is not finite, 1 not measured."
    )
    assert pareto_plot(settings[:1], [], RISE, {}) is None


def test_the_models_before_unlearning_are_marked(settings_of):
    found = [(["seed=0"], book_metrics(3.0, 7.0), "finished")]
    _, svg = draw(settings_of(found, BOOK))
    classes = {p.get("class") for p in svg.iter("path")}
    assert {"start original", "start before"} <= classes


def test_one_key_is_drawn_as_a_curve(settings_of):
    settings = settings_of(grid(retain=(5.0,)))
    (key,) = settings[0].keys
    svg = ElementTree.fromstring(response(settings, HARM, key) or "")
    assert len(list(svg.iter("circle"))) == 3
    said = [t.text for t in svg.iter("text")]
    assert {"0.1", "0.25", "0.5", "forget.weight"} <= set(said)


def test_words_are_drawn_without_a_line(settings_of):
    found = [([f"objective={o}"], harm_metrics(0.1, 1.0), "finished") for o in ("npo", "paper")]
    settings = settings_of(found)
    svg = ElementTree.fromstring(response(settings, HARM, settings[0].keys[0]) or "")
    assert len(list(svg.iter("circle"))) == 2 and not list(svg.iter("path"))


def test_a_search_is_drawn_to_scale_in_orders_of_magnitude(settings_of):
    found = [
        ([f"rate={10**-n}", f"b={n * n + 0.5}"], harm_metrics(0.1, 1.0 + n), "finished")
        for n in range(12)
    ]
    settings = settings_of(found)
    svg = ElementTree.fromstring(dot_map(settings, RISE, settings[0].keys) or "")
    places = sorted(float(c.get("cx", "")) for c in svg.iter("circle"))
    gaps = [b - a for a, b in pairwise(places)]
    assert len(places) == 12 and max(gaps) - min(gaps) < 0.5
    levels = {c.get("class", "").split()[1] for c in svg.iter("circle")}
    assert {"h0", "h8"} <= levels
