from __future__ import annotations

import math

import pytest

from unlearning.report.figures import DASH
from unlearning.report.sweep.heat import LEVELS, heat_map, pairs, tabular
from unlearning.report.sweep.measures import ALIKE, HARM, RISE
from unlearning.report.sweep.over_keys import over_keys

from .sweeps import book_metrics, harm_metrics


def jobs(values: dict[tuple[int, int, int, int], float], rise: float = 1.0):
    """(a, b, c, seed) -> harmful rate."""
    return [
        ([f"a={a}", f"b={b}", f"c={c}", f"seed={s}"], harm_metrics(harm, rise), "finished")
        for (a, b, c, s), harm in values.items()
    ]


def test_cells_are_means_over_the_other_keys_and_seeds(settings_of):
    values = {(a, b, c, s): 0.0 for a in (1, 2) for b in (1, 2) for c in (1, 2) for s in (0, 1)}
    values |= {(1, 1, 1, 0): 0.2, (1, 1, 1, 1): 0.4, (1, 1, 2, 0): 0.6, (1, 1, 2, 1): 0.8}
    settings = settings_of(jobs(values))
    found = pairs(settings[0].keys)
    assert [(x.path, y.path) for x, y in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    (one, fields), (two, _) = heat_map(settings, HARM, found[0]).rows
    assert (one, two) == ("1", "2")
    assert fields[0].cell.value == pytest.approx(0.5)
    assert (fields[0].settings, fields[0].runs) == (2, 4)
    assert fields[1].cell.value == 0.0


def test_settings_weigh_the_same_however_many_seeds_they_have(settings_of):
    settings = settings_of(jobs({(1, 1, 1, 0): 0.2, (1, 1, 1, 1): 0.4, (1, 1, 2, 0): 0.6,
                                 (2, 2, 1, 0): 0.0}))  # fmt: skip
    a, b, _ = settings[0].keys
    drawn = heat_map(settings, HARM, (a, b))
    assert drawn.rows[0][1][0].cell.value == pytest.approx(0.45)  # of 0.3 and 0.6
    assert drawn.uneven  # two settings in one cell, one in another
    assert drawn.rows[0][1][1].level is None  # a = 2 with b = 1 was not run
    assert drawn.rows[0][1][1].cell.text == DASH


def test_colours_run_from_the_best_to_the_worst(settings_of):
    harms = {(1, 1, 1, 0): 0.0, (1, 2, 1, 0): 0.4, (2, 1, 1, 0): 0.8, (2, 2, 1, 0): 0.2}
    settings = settings_of(jobs(harms))
    (_, top), (_, bottom) = heat_map(settings, HARM, settings[0].keys[:2]).rows
    assert [f.level for f in (*top, *bottom)] == [0, LEVELS - 1, (LEVELS - 1) // 2, 2]


def test_less_of_a_similarity_is_the_stronger_colour_and_infinity_the_strongest(settings_of):
    found = [
        (["a=1", "b=1"], harm_metrics(0.1, math.inf, alike=90.0), "finished"),
        (["a=2", "b=2"], harm_metrics(0.1, 3.0, alike=10.0), "finished"),
        (["a=1", "b=2"], harm_metrics(0.1, 1.0, alike=50.0), "finished"),
    ]
    settings = settings_of(found)
    (_, (first, _)), (_, (third, second)) = heat_map(settings, ALIKE, settings[0].keys).rows
    assert [first.level, third.level, second.level] == [0, 4, 8]
    (_, (first, _)), (_, (third, second)) = heat_map(settings, RISE, settings[0].keys).rows
    assert [first.level, third.level, second.level] == [8, 0, 8]
    assert first.cell.text == "+∞"


def test_a_random_search_has_no_table(settings_of):
    settings = settings_of(jobs({(n, n * n, 1, 0): 0.1 for n in range(1, 30)}))
    (pair,) = pairs(settings[0].keys)
    assert not tabular(pair)


def test_words_are_no_axis(settings_of):
    found = [([f"objective={o}", f"a={a}"], harm_metrics(0.1, 1.0), "finished")
             for o in ("npo", "paper") for a in (1, 2)]  # fmt: skip
    assert pairs(settings_of(found)[0].keys) == []


def test_values_of_other_runs_make_no_empty_rows(settings_of):
    found = [
        ([f"a={a}", f"b={b}", f"seed={s}"], harm_metrics(0.1, 1.0), "finished")
        for a in (1, 2) for b in (1, 2) for s in (0, 1)
    ]  # fmt: skip
    found += [(["a=7", "b=8", "seed=0"], book_metrics(1.0, 1.0), "finished")]
    settings = settings_of(found)
    (maps,) = over_keys(settings, settings[0].keys, [HARM]).maps
    (table,) = maps.tables
    assert table.across.values == table.down.values == ("1", "2")
