from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from unlearning.report.figures import Figure
from unlearning.report.panels import interval_panels, loss_panels, weighted_panel
from unlearning.report.plots import (
    WIDTH,
    Line,
    Pair,
    interval_chart,
    line_chart,
    moving_mean,
    thin_out,
)


def test_moving_mean_by_hand():
    points = [(0, 0.0), (1, 3.0), (2, 6.0), (3, 0.0)]
    assert moving_mean(points, 3) == [(0, 1.5), (1, 3.0), (2, 3.0), (3, 3.0)]


def test_thinning_keeps_spikes_and_order():
    points = [(float(step), math.sin(step)) for step in range(10_000)]
    points[4321] = (4321.0, 99.0)
    points[777] = (777.0, -99.0)
    kept = thin_out(points, 100)
    assert len(kept) <= 100
    assert (4321.0, 99.0) in kept and (777.0, -99.0) in kept
    assert kept == sorted(kept)
    assert thin_out(points[:100], 100) == points[:100]


def test_line_chart_places_points_by_hand():
    svg = ElementTree.fromstring(line_chart([Line("x", [(0, 0.0), (10, 1.0)], "part0")], "said"))
    (path,) = svg.iter("path")
    assert svg.get("aria-label") == "said"
    # x from 46 to 330; y padded by 6 %: 0 lies 0.06 / 1.12 above the floor at 146, 1 below 12
    assert path.get("d") == "M46 138.8L330 19.2"


def test_values_that_are_not_finite_are_left_out():
    curve = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]
    svg = ElementTree.fromstring(line_chart([Line("x", curve, "part0")], ""))
    (path,) = svg.iter("path")
    assert path.get("d", "").count("L") == 1
    assert "No finite values" in line_chart([Line("x", [(0, math.nan)], "part0")], "")


def test_single_and_flat_curves_are_drawn():
    dot = ElementTree.fromstring(line_chart([Line("x", [(5, 2.0)], "part0")], ""))
    assert len(list(dot.iter("circle"))) == 1
    flat = ElementTree.fromstring(line_chart([Line("x", [(0, 2.0), (1, 2.0)], "part0")], ""))
    (path,) = flat.iter("path")
    assert path.get("d") == "M46 79L330 79"  # the middle of 12 to 146


def pair(name, before, after, original=None):
    first = [] if original is None else [("original", original)]
    return Pair(name, (*first, ("before", before), ("after", after)))


def test_intervals_stay_inside_and_rates_share_a_scale():
    pairs = [pair("set", Figure(0.5, 0.25, 0.75), Figure(0.0, 0.0, 1.0))]
    svg = ElementTree.fromstring(interval_chart(pairs, "rate", "said"))
    bars = [
        (float(e.get("x1", "")), float(e.get("x2", ""))) for e in svg if "bar" in e.get("class", "")
    ]
    # 0..1 is drawn from 8 to 332
    assert bars == [(89.0, 251.0), (8.0, 332.0)]
    dots = [float(e.get("cx", "")) for e in svg.iter("circle")]
    assert dots == [170.0, 8.0]
    assert all(0 <= x <= WIDTH for bar in bars for x in bar)


def test_an_infinite_figure_has_no_mark_and_is_written():
    pairs = [pair("set", Figure(4.0), Figure(math.inf, 5.0, math.inf))]
    chart = interval_chart(pairs, "plain", "")
    assert chart.count("<circle") == 1
    assert "4.00 → ∞" in chart
    assert "Not measured" in interval_chart([pair("set", Figure(), Figure())], "rate", "")


def test_long_names_are_cut_but_kept_as_title():
    chart = interval_chart([pair("n" * 50, Figure(0.5), Figure(0.5))], "rate", "")
    assert f"{'n' * 29}…<title>{'n' * 50}</title>" in chart


def test_parts_keep_their_colour_and_losses_are_sorted():
    curve = [(0.0, 1.0), (1.0, 2.0)]
    names = ["lr-AdamW", "forget", "forget_weighted", "nll_forget"]
    names += ["retain", "retain_weighted", "total"]
    losses = dict.fromkeys(names, curve)
    titles = [panel.title for panel in loss_panels(losses)]
    assert titles == ["forget", "nll forget", "retain", "learning rate"]
    weighted = weighted_panel(losses)
    assert weighted is not None
    assert weighted.legend == (("forget", "part0"), ("retain", "part1"), ("total", "total"))
    assert 'class="part1 curve"' in loss_panels(losses)[2].picture
    assert weighted_panel({"forget": curve}) is None


def test_perplexity_of_harmful_sets_does_not_stretch_the_scale(metrics):
    metrics["after"]["harmful_heldout/perplexity"] = 4000.0
    (panel,) = [p for p in interval_panels(metrics) if p.title.startswith("Perplexity")]
    assert "harmful_heldout" not in panel.picture
    assert "4.21 → 4.30" in panel.picture


def test_a_third_stage_is_drawn_above_the_others():
    pairs = [
        pair("set", Figure(50.0), Figure(25.0), Figure(75.0)),
        pair("n" * 50, Figure(), Figure(1.0)),
    ]
    svg = ElementTree.fromstring(interval_chart(pairs, "bleu", ""))
    dots = [
        (e.get("class"), *map(float, (e.get("cx", ""), e.get("cy", ""))))
        for e in svg.iter("circle")
    ]
    # 0..100 is drawn from 8 to 332, three lines of 11 from 29 on; the next row begins at 61
    assert dots == [
        ("dot original", 251.0, 29),
        ("dot before", 170.0, 40),
        ("dot after", 89.0, 51),
        ("dot after", 11.2, 101),
    ]
    texts = ["".join(e.itertext()) for e in svg.iter("text")]
    assert "75.0 → 50.0 → 25.0" in texts and "1.0" in texts
    assert f"{'n' * 17}…{'n' * 50}" in texts  # three figures leave less room for the name


def test_an_original_that_was_not_measured_is_not_written():
    pairs = [pair("set", Figure(50.0), Figure(25.0), Figure())]
    assert ">50.0 → 25.0<" in interval_chart(pairs, "bleu", "")
