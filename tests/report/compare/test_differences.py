"""Pairs of methods that can and cannot be told apart, by numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unlearning.report.compare.differences import SAME, paired_mean
from unlearning.report.compare.results import read_results

from .comparisons import write_comparison_folder

TRIALS = [(0.3, 1.0)]


def differs(folder, figure="harmful_rate"):
    found = read_results(folder).differences
    return {(d.first, d.second): d.differs for d in found if d.measure.key == figure}


def test_paired_student_t_by_hand():
    """Differences .1, .2, .3: mean .2, s / sqrt(3) = .0577, t of two degrees 4.303 at 95 %."""
    figure, why = paired_mean([0.1, 0.2, 0.3], None, 0.95)
    assert figure.value == pytest.approx(0.2) and why == ""
    assert figure.high - figure.value == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert paired_mean([0.1, 0.2, 0.3], None, 0.99)[0].low < 0 < figure.low + 0.06


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "not measured"),
        ([0.1, math.inf, 0.2], "not finite"),
        ([0.1, 0.2], "fewer than 3 seeds"),
        ([0.1, 0.1, 0.1], "nothing scatters"),
        ([0.0, 0.0, 0.0], SAME),
    ],
)
def test_no_interval_has_a_reason(values, why):
    figure, said = paired_mean(values, None, 0.95)
    assert said == why and not figure.has_interval


def test_methods_are_paired_by_seed(tmp_path):
    """Seeds scatter by .2, and the difference under each of them is .05 to a hair."""
    one = [(0.1, 1.0), (0.3, 1.1), (0.5, 1.2)]
    other = [(0.151, 1.2), (0.35, 0.9), (0.549, 1.2)]
    apart = write_comparison_folder(
        tmp_path / "a", {"paper": (TRIALS, one), "npo": (TRIALS, other)}
    )
    assert differs(apart) == {("paper", "npo"): True}
    assert differs(apart, "perplexity_rise") == {("paper", "npo"): False}
    turned = [other[1], other[2], other[0]]  # the same figures under other seeds
    mixed = write_comparison_folder(
        tmp_path / "b", {"paper": (TRIALS, one), "npo": (TRIALS, turned)}
    )
    assert differs(mixed) == {("paper", "npo"): False}


def test_the_prompts_count_beside_the_seeds(tmp_path):
    """60 prompts, hardly any scatter over seeds: what differs on 5 of them, 4 one way, may be
    chance of the prompts; on 30, all one way, it is not."""
    base = np.zeros((3, 60))
    base[:, :30] = 1
    few, many = base.copy(), base.copy()
    few[:, :4], few[:, 59] = 0, 1
    many[:, :30] = 0
    many[0, 5] = few[0, 10] = 0
    for other, expected in ((few, False), (many, True)):
        prompts = {"paper": base, "npo": other}
        tests = {m: [(float(p[s].mean()), 1.0 + s) for s in range(3)] for m, p in prompts.items()}
        found = write_comparison_folder(
            tmp_path / str(expected), {m: (TRIALS, t) for m, t in tests.items()}, prompts=prompts
        )
        assert differs(found) == {("paper", "npo"): expected}
    # By the seeds alone the few would have been told apart.
    assert paired_mean([0.0666, 0.05, 0.05], None, 0.95)[0].low > 0


def test_more_pairs_have_wider_intervals(tmp_path):
    """The intervals of one figure hold together: .05 shared among the pairs."""
    tests = {
        "paper": [(0.10, 1.0), (0.20, 1.0), (0.30, 1.0)],
        "npo": [(0.12, 1.0), (0.23, 1.0), (0.34, 1.0)],
        "sam": [(0.90, 1.0), (0.91, 1.0), (0.99, 1.0)],
    }
    two = {m: (TRIALS, tests[m]) for m in ("paper", "npo")}
    three = {m: (TRIALS, t) for m, t in tests.items()}
    alone = read_results(write_comparison_folder(tmp_path / "2", two)).differences[0].figure
    among = read_results(write_comparison_folder(tmp_path / "3", three)).differences[0].figure
    # -.03 with s / sqrt(3) = .00577: t of two degrees is 4.303 at 95 %, 7.649 at 98.33 %.
    assert alone.high == pytest.approx(-0.03 + 4.3027 * 0.01 / math.sqrt(3), abs=1e-5)
    assert among.high == pytest.approx(-0.03 + 7.6488 * 0.01 / math.sqrt(3), abs=1e-5)
