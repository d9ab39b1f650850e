"""Which interval a metric has, and that repeated prompts count once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.accuracy import exact_match, kept_right, rouge_accuracy
from unlearning.metrics.aggregate import Aggregate
from unlearning.metrics.bootstrap import Resampling, percentile
from unlearning.metrics.comparison import ComparisonSettings, compare
from unlearning.metrics.estimate import estimate, estimate_change
from unlearning.metrics.harm import effectiveness, effectiveness_of, harmful_rate
from unlearning.metrics.harmonic_mean import harmonic_mean
from unlearning.metrics.likeness import bleu_to_target, rouge_l_to_target
from unlearning.metrics.metric import metric
from unlearning.metrics.rates import RateRatio, rate
from unlearning.metrics.score_intervals import (
    PairedCounts,
    mover_r,
    newcombe,
    newcombe_paired,
    wilson,
)
from unlearning.metrics.statistic import Sums, mean
from unlearning.types import Generation

FAST = ComparisonSettings(n_resamples=200)
WORDS = ["the cat sat on the mat", "a dog ran to the red house", "we like the cold sea a lot"]


def _answers(flags: list[int], stage: str = "after", prompts: list[str] | None = None) -> Any:
    prompts = prompts or [f"question {n}" for n in range(len(flags))]
    return [
        Generation(
            stage, "set", n, prompt, WORDS[n % 3], WORDS[n % 3] if flag else WORDS[(n + 1) % 3],
            harm_probability=float(flag),
        )
        for n, (flag, prompt) in enumerate(zip(flags, prompts, strict=True))
    ]  # fmt: skip


def _compared(before: list[int], after: list[int], *metrics: Any, **more: Any) -> dict[str, Any]:
    answers = {"before": _answers(before, "before"), "after": _answers(after)}
    return compare(answers, {"set": metrics}, FAST, **more)


def test_a_rate_is_declared_and_not_seen() -> None:
    """Scores that happen to be 0 and 1 are a mean; booleans are a rate."""

    @metric("Yes", name="yes")
    def yes(answers: Any) -> list[bool]:
        return [g.harm_probability > 0.5 for g in answers]

    @metric("Score", name="score")
    def score(answers: Any) -> list[float]:
        return [float(g.harm_probability > 0.5) for g in answers]

    found = _compared([1, 1, 1, 0], [1, 0, 0, 0], yes, score)
    assert found["after"]["set/yes"]["method"] == "wilson_cc"
    assert found["after"]["set/score"]["method"] == "bootstrap"
    assert found["change"]["set/yes"]["method"] == "newcombe_paired"
    assert found["change"]["set/score"]["method"] == "bootstrap"
    assert "mcnemar_p" not in found["change"]["set/score"]
    for bad in ([0.5, 1], [0, 2]):
        with pytest.raises(ConfigError, match="a rate is of 0 and 1, or of booleans"):
            rate(bad)
    with pytest.raises(ConfigError, match="a rate is of 0 and 1"):
        RateRatio(np.array([[1, 0.5]]), effectiveness_of)


def test_nothing_of_84_is_not_certain() -> None:
    """What was printed as 0 % (0 to 0), and E as 100 (100 to 100)."""
    found = _compared([1] * 20 + [0] * 64, [0] * 84, harmful_rate, effectiveness)
    after, change = found["after"]["set/harmful_rate"], found["change"]["set/harmful_rate"]
    assert (after["value"], after["low"], after["method"]) == (0, 0, "wilson_cc")
    assert after["high"] == pytest.approx(wilson(0, 84)[1])
    table = PairedCounts(0, 20, 0, 64)
    assert (change["low"], change["high"]) == pytest.approx(newcombe_paired(table))
    assert change["mcnemar_p"] == pytest.approx(2 / 2**20)
    e = found["after"]["set/effectiveness"]
    low, high = mover_r(table)
    assert (e["value"], e["method"]) == (100, "mover_r")
    assert (e["low"], e["high"]) == pytest.approx((100 - 100 * high, 100 - 100 * low))
    assert e["low"] < 85 and e["high"] == 100


def test_the_first_of_a_rate_that_is_one_by_definition() -> None:
    """Of what was right before, all was right before: the change has the width of the value."""
    found = _compared([1] * 9 + [0], [1] * 7 + [0] * 3, kept_right)
    value, change = found["after"]["set/kept_right"], found["change"]["set/kept_right"]
    assert value["n"] == change["n"] == 9 and value["method"] == change["method"] == "wilson_cc"
    assert (value["low"], value["high"]) == pytest.approx(wilson(7, 9))
    for end in ("value", "low", "high"):
        assert change[end] == pytest.approx(value[end] - 1)


def test_rates_over_different_prompts_are_not_paired() -> None:
    first = rate([1, 1, 0, 0, 1], where=[True, True, True, True, False])
    second = rate([0, 1, 0, 1, 0], where=[False, True, True, True, True])
    found = estimate_change(first, second)
    assert found.method == "newcombe" and found.value == 0
    assert (found.low, found.high) == pytest.approx(newcombe(2, 4, 2, 4))
    assert found.mcnemar_p == 1  # of the three prompts of both: none fell, one rose
    assert found.n == 3


def test_a_metric_may_have_a_method_of_its_own() -> None:
    found = _compared([1, 1, 0, 0], [1, 0, 0, 0], replace(harmful_rate, interval=percentile))
    assert found["after"]["set/harmful_rate"]["method"] == "bootstrap"
    assert found["change"]["set/harmful_rate"]["method"] == "bootstrap"


# Prompts that repeat

ASKED = ["a", "b", "a", "c", "a", "d", "b"]
ONCE = [0, 1, 3, 5]


def _repeated(flags: dict[str, int], stage: str) -> list[Generation]:
    return _answers([flags[prompt] for prompt in ASKED], stage, ASKED)


def test_equal_answers_to_one_prompt_count_as_the_effective_number() -> None:
    """3, 2, 1 and 1 answers: 49 / 15 prompts."""
    sides = [
        _repeated(flags, stage)
        for flags, stage in (({"a": 1, "b": 1, "c": 0, "d": 1}, "before"),
                             ({"a": 0, "b": 1, "c": 0, "d": 0}, "after"))
    ]  # fmt: skip
    found = compare(
        {"before": sides[0], "after": sides[1]}, {"set": [harmful_rate, effectiveness]}, FAST
    )
    before, change = (found[part]["set/harmful_rate"] for part in ("before", "change"))
    n, share = 49 / 15, 7 / 15
    assert (before["n"], before["clusters"], before["method"]) == (7, 4, "cluster_wilson_cc")
    assert (before["low"], before["high"]) == pytest.approx(wilson(6 * share, n))
    table = PairedCounts(2 * share, 4 * share, 0, share)
    assert change["method"] == "cluster_newcombe_paired"
    assert (change["low"], change["high"]) == pytest.approx(newcombe_paired(table))
    assert change["mcnemar_p"] == 0.5  # two prompts, not four answers
    e = found["after"]["set/effectiveness"]
    assert e["method"] == "cluster_mover_r"
    assert e["low"] == pytest.approx(100 - 100 * mover_r(table)[1])


def test_a_bootstrap_draws_a_prompt_with_all_of_its_answers() -> None:
    values = np.array([1.0, 5.0, 2.0, 7.0, 3.0, 9.0, 4.0])
    numbers = np.array([0, 1, 0, 2, 0, 3, 1])
    clustered = replace(mean(values), clusters=numbers)
    found = estimate(clustered, Resampling(300, seed=5))
    assert (found.method, found.n, found.clusters) == ("cluster_bootstrap", 7, 4)
    picks = np.random.default_rng(5).integers(0, 4, size=(300, 4))
    means = [np.mean(np.concatenate([values[numbers == k] for k in pick])) for pick in picks]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))

    @metric("Median", name="median")
    def median(answers: Any) -> float:
        return float(np.median([len(g.completion) for g in answers]))

    statistic = median.statistic(_answers([1] * 7, prompts=ASKED))
    assert statistic is not None and statistic.repeats
    lengths = np.array([len(WORDS[n % 3]) for n in range(7)])
    medians = [np.median(np.concatenate([lengths[numbers == k] for k in p])) for p in picks]
    assert statistic.resampled(300, 5)[1:].tolist() == medians


def test_a_prompt_that_stands_once_is_no_cluster() -> None:
    statistic = harmful_rate.statistic(_answers([1, 0, 1]))
    assert statistic is not None and statistic.clusters is None
    assert "clusters" not in estimate(statistic).to_json()


# Figures of several metrics


def test_a_harmonic_mean_that_never_moves_has_no_interval() -> None:
    """0 where a part is: in every resample."""
    parts = ("set/rouge_accuracy", "set/exact_match")
    found = _compared(
        [0] * 9, [0] * 9, rouge_accuracy, exact_match,
        aggregates={"utility": Aggregate(harmonic_mean, parts)},
    )  # fmt: skip
    for part in ("before", "after", "change"):
        entry = found[part]["aggregates/utility"]
        assert entry == {"value": 0, "low": None, "high": None, "n": 9, "method": None}
    assert found["after"]["set/exact_match"]["high"] > 0.3


def test_metrics_of_different_numbers_of_prompts_stay_paired() -> None:
    """Of one set, one of them over prompts with a target: each resample draws the same prompts."""
    random = np.random.default_rng(0)
    answers = [
        replace(g, target=g.target if n % 3 else "")
        for n, g in enumerate(_answers([int(x) for x in random.random(60) < 0.5]))
    ]

    @metric("Right on those with a target", name="all_of_them")
    def all_of_them(rows: Any) -> Sums:
        return mean([g.completion == g.target for g in rows], [bool(g.target) for g in rows])

    @metric("Difference", name="difference")
    def difference(*figures: Any) -> float:
        return float(figures[0].value - figures[1].value)

    pair = Aggregate(difference, ("set/exact_match", "set/all_of_them"))
    found = compare({"m": answers}, {"set": [exact_match, all_of_them]}, FAST, {"gap": pair})["m"]
    assert found["set/exact_match"]["n"] == 40
    assert found["aggregates/gap"]["value"] == 0
    assert found["aggregates/gap"]["method"] is None  # no resample parts what is the same
    for each in (bleu_to_target, rouge_l_to_target, rouge_accuracy):
        statistic = each.statistic(answers)
        assert statistic is not None and len(statistic.known) == 60
        alone = each.statistic([g for g in answers if g.target])
        assert alone is not None and statistic.value == pytest.approx(alone.value)
        assert int(statistic.known.sum()) == int(alone.known.sum()) == 40


def test_an_undefined_rate_has_no_interval() -> None:
    nobody = estimate(rate([True, False], where=[False, False]))
    assert (math.isnan(nobody.value), math.isnan(nobody.low), nobody.method) == (True, True, None)
    missing = rate([1, math.nan])
    assert estimate(missing).method is None
    changed = estimate_change(missing, rate([1, 1]))
    assert (changed.method, changed.to_json()["mcnemar_p"]) == (None, None)
