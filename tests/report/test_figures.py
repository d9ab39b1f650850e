from __future__ import annotations

import math

import pytest

from unlearning import names_0_4
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.report.figures import (
    DASH,
    Figure,
    figure,
    plain,
    prompt_sets,
    write_interval,
    write_number,
)
from unlearning.report.specs import spec


@pytest.mark.parametrize(
    ("value", "unit", "difference", "text"),
    [
        (0.8125, "rate", False, "81.2 %"),
        (0.05, "rate", True, "+5.0 pts"),
        (-0.75, "rate", True, "\N{MINUS SIGN}75.0 pts"),
        (-0.00001, "rate", True, "0.0 pts"),
        (0.0, "rate", True, "0.0 pts"),
        (2.048, "percent", True, "+2.0 %"),
        (13212.9, "percent", True, "+13,213 %"),
        (88.55, "bleu", False, "88.5"),
        (4.2137, "plain", False, "4.21"),
        (0.5124, "plain", False, "0.512"),
        (412.7, "plain", True, "+412.7"),
        (12345.6, "plain", False, "12,346"),
        (2e-6, "plain", False, "2e\N{MINUS SIGN}06"),
        (math.inf, "plain", True, "+∞"),
        (-math.inf, "rate", True, "\N{MINUS SIGN}∞"),
        (None, "rate", False, DASH),
    ],
)
def test_write_number(value, unit, difference, text):
    assert write_number(value, unit, difference).replace("\xa0", " ") == text


def test_interval_names_its_unit_once():
    shown = Figure(-0.75, -0.85, 0.02)
    assert (
        write_interval(shown, "rate", True).replace("\xa0", " ") == "\N{MINUS SIGN}85.0 to +2.0 pts"
    )
    assert write_interval(Figure(1.0, None, 2.0), "plain") == ""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, Figure()),
        (0.5, Figure(0.5)),
        (float("nan"), Figure()),
        ("0.5", Figure()),
        (True, Figure()),
        ({"value": 1, "low": float("nan"), "high": None, "n": 7}, Figure(1.0, None, None, 7)),
        ({}, Figure()),
    ],
)
def test_figure_from_json(raw, expected):
    assert figure(raw) == expected


@pytest.mark.parametrize("kind", ["harmful", "copyright", "retain", "related"])
def test_a_folder_of_version_0_4_reads_like_one_of_today(kind):
    """The declarations of then, kept for its folders, are those that the metrics have today, but
    for the metrics that it lacked and for one direction that it did not give."""
    for each in metrics_of_kind(kind):
        if each.name not in names_0_4.DECLARED:
            continue
        today = {"metrics": {each.name: {"label": each.label, "unit": each.unit}}}
        today["prompt_sets"] = {"s": {"kind": kind, "directions": {each.name: each.direction}}}
        now, then = spec(today, "s", each.name), spec({"prompt_sets": {"s": kind}}, "s", each.name)
        assert now.label == then.label.replace(", nats per token", "")
        assert now.unit == then.unit, each.name
        undirected = kind == "harmful" and each.name.endswith("_to_target")
        assert then.wanted == ("" if undirected else now.wanted), each.name


def test_prompt_sets_keep_their_order_and_slashes():
    metrics = {"prompt_sets": {"b": "retain", "a": "harmful"}, "after": {"c/d/harmful_rate": 1}}
    assert prompt_sets(metrics) == {"b": "retain", "a": "harmful", "c/d": ""}


def test_zero_is_a_plain_number():
    assert plain(0.0) == "0.000"
