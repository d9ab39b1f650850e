from __future__ import annotations

import math

import pytest

from unlearning.report.sweep.measures import (
    ALIKE,
    BOOK,
    BROKEN,
    HARM,
    RISE,
    applies,
    least_useful,
    starting_points,
)

from .sweeps import book_metrics, estimate, harm_metrics


def test_harm_is_read_from_held_out_prompts():
    metrics = harm_metrics(0.25, 4.0, 88.0, 0.03)
    assert HARM.read(metrics).value == 0.25  # the prompts trained on have 0
    assert RISE.read(metrics).value == 4.0
    assert ALIKE.read(metrics).value == 88.0
    assert BROKEN.read(metrics).value == 0.03
    assert applies(metrics, HARM) and not applies(metrics, BOOK)


def test_a_book_is_read_from_what_was_taught_and_since_the_original_model():
    metrics = book_metrics(3.0, 7.0, original=0.5)
    assert BOOK.read(metrics).value == 3.0
    assert RISE.read(metrics).value == 7.0
    assert applies(metrics, BOOK) and not applies(metrics, HARM)
    assert least_useful(metrics, BOOK) == 0.5
    assert starting_points(metrics, BOOK) == {
        "original": (0.0, 0.5),
        "before": (pytest.approx(25.0), 80.0),  # 25 against 20
    }


def test_the_worst_of_several_sets_speaks_and_a_gap_silences_it():
    metrics = harm_metrics(0.25, 4.0)
    metrics["prompt_sets"]["other_heldout"] = "harmful"
    assert HARM.read(metrics).value is None
    metrics["after"]["other_heldout/harmful_rate"] = estimate(0.5)
    assert HARM.read(metrics).value == 0.5
    metrics["prompt_sets"]["second_heldout"] = "retain"
    metrics["after"]["second_heldout/bleu_to_original"] = estimate(20.0)
    assert ALIKE.read(metrics).value == 20.0  # more is better, so the least is the worst


def test_a_perplexity_that_is_not_finite_is_damage_and_a_missing_one_a_gap():
    assert RISE.read(harm_metrics(0.0, math.inf)).value == math.inf
    assert RISE.read(harm_metrics(0.0, None)).value is None


def test_changes_are_worked_out_where_they_were_not_stored():
    metrics = harm_metrics(0.1, 10.0, broken=0.2)
    del metrics["change"]
    assert RISE.read(metrics).value == pytest.approx(10.0)
    assert BROKEN.read(metrics).value == pytest.approx(0.2)


def test_nothing_is_read_from_nothing():
    for measure in (HARM, BOOK, RISE, ALIKE, BROKEN):
        assert measure.read({}).value is None
    assert not applies({}, HARM) and starting_points({}, HARM) == {}
