from __future__ import annotations

import math

import pytest

from unlearning.report.figures import Figure
from unlearning.report.sweep.measures import BOOK, HARM, RISE
from unlearning.report.sweep.settings import mean_over_seeds, repeated

from .sweeps import FORGET, book_metrics, grid, harm_metrics


def run(seed: int, harm: float, rise: float = 1.0, weight: float = 0.1):
    return [f"{FORGET}={weight}", f"seed={seed}"], harm_metrics(harm, rise), "finished"


def test_mean_and_t_interval_by_hand():
    """1, 2 and 3: mean 2, s = 1, t(2) = 4.30265, so that the half width is 2.48414."""
    mean = mean_over_seeds([Figure(1.0), Figure(2.0), Figure(3.0)], RISE)
    assert mean.figure.value == 2.0
    assert mean.figure.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert mean.figure.high == pytest.approx(2 + 2.48414, abs=1e-5)
    assert (mean.over, mean.seeds, mean.figure.n) == ("seeds", 3, 3)


def test_intervals_end_where_the_measure_does():
    mean = mean_over_seeds([Figure(0.0), Figure(0.6), Figure(0.9)], HARM)
    assert mean.figure.low == 0.0 and mean.figure.high == 1.0  # 0.5 +- 1.14


def test_a_single_run_keeps_its_interval_over_prompts():
    mean = mean_over_seeds([Figure(0.1, 0.05, 0.2, 50)], HARM)
    assert mean.figure == Figure(0.1, 0.05, 0.2, 50)
    assert mean.over == "prompts"
    assert mean_over_seeds([Figure(0.1)], HARM).over == ""


def test_seeds_that_agree_to_the_digit_have_the_widest_interval_over_prompts():
    mean = mean_over_seeds([Figure(0.0), Figure(0.0), Figure(0.0)], HARM)
    assert mean.figure == Figure(0.0, None, None, 3) and mean.over == ""
    agreed = [Figure(0.0, 0.0, high, 84) for high in (0.0, 0.044, 0.03)]
    mean = mean_over_seeds(agreed, HARM)
    assert (mean.figure, mean.over) == (Figure(0.0, 0.0, 0.044, 3), "prompts")
    no_width = [Figure(0.0, 0.0, 0.0, 84)] * 3  # as version 0.5 wrote it
    assert mean_over_seeds(no_width, HARM).figure == Figure(0.0, None, None, 3)


def test_what_is_missing_is_left_out_and_what_is_infinite_stays():
    assert mean_over_seeds([Figure(), Figure(0.5), Figure(0.7)], HARM).seeds == 2
    assert mean_over_seeds([Figure()], HARM).value is None
    mean = mean_over_seeds([Figure(3.0), Figure(math.inf)], RISE)
    assert mean.value == math.inf and not mean.figure.has_interval


def test_jobs_that_differ_in_their_seed_alone_are_one_setting(settings_of):
    settings = settings_of(grid())
    assert len(settings) == 9
    assert [len(setting.runs) for setting in settings] == [3] * 9
    assert settings[1].label == "forget.weight = 0.1, retain.weight = 5"


def test_the_same_seed_twice_is_one_sample(settings_of):
    settings = settings_of([run(0, 0.1), run(0, 0.9), run(1, 0.3)])
    (setting,) = settings
    assert setting.forgetting.value == pytest.approx(0.2)
    assert setting.forgetting.seeds == 2
    assert [job.name for job in repeated(settings)] == ["1"]


def test_failed_jobs_belong_to_their_setting_but_are_no_run(settings_of):
    jobs = [run(0, 0.1), ([f"{FORGET}=0.1", "seed=1"], None, "failed")]
    jobs.append(([f"{FORGET}=0.9", "seed=0"], None, "failed"))
    (setting,) = settings_of(jobs)  # nothing is known of the weight 0.9
    assert (len(setting.jobs), len(setting.runs)) == (2, 1)


def test_below_the_original_model_a_book_is_not_more_forgotten(settings_of):
    jobs = [
        ([f"{FORGET}={n}"], book_metrics(bleu, 1.0, original=0.5), "finished")
        for n, bleu in enumerate((0.1, 0.4, 2.0))
    ]
    assert [setting.rank for setting in settings_of(jobs, BOOK)] == [0.5, 0.5, 2.0]


def test_runs_about_something_else_are_no_setting(settings_of):
    jobs = [run(0, 0.1), (["experiment=book", "seed=0"], book_metrics(1.0, 1.0), "finished")]
    assert len(settings_of(jobs, HARM)) == 1
    assert len(settings_of(jobs, BOOK)) == 1
