from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats
from work import lines_run

from unlearning.errors import ConfigError
from unlearning.metrics import resample as module
from unlearning.metrics.bootstrap import Change, Resampling, difference, percentile
from unlearning.metrics.estimate import Estimate, estimate, estimate_change
from unlearning.metrics.perplexity import perplexity
from unlearning.metrics.resample import draws, resampled_sums
from unlearning.metrics.similarity import bleu_of_sums, bleu_statistics
from unlearning.metrics.statistic import Sample, Sums, ratio


def _means(values: Any) -> np.ndarray:
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


class Paired(NamedTuple):
    before: Estimate
    after: Estimate
    change: Estimate


def bootstrap(rows: Any, value: Any = ratio, **how: Any) -> Estimate:
    return estimate(Sums(rows, value), Resampling(**how))


def paired_bootstrap(
    before: Any, after: Any, value: Any = ratio, change: Change = difference, **how: Any
) -> Paired:
    sides, settings = [Sums(rows, value) for rows in (before, after)], Resampling(**how)
    changed = estimate_change(sides[0], sides[1], change, settings)
    return Paired(*(estimate(side, settings) for side in sides), changed)


def _slow(before: np.ndarray, after: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """The same bootstrap of a mean's change, one prompt at a time."""
    generator = np.random.default_rng(seed)
    n = len(before)
    changes = []
    for _ in range(n_resamples):
        picks = generator.integers(0, n, size=(1, n))[0]
        old = sum(before[i] for i in picks) / n
        new = sum(after[i] for i in picks) / n
        changes.append(new - old)
    return np.array(changes)


def test_equals_a_plain_loop() -> None:
    generator = np.random.default_rng(5)
    before, after = generator.normal(size=23), generator.normal(size=23)
    found = paired_bootstrap(_means(before), _means(after), n_resamples=300, seed=11)
    changes = _slow(before, after, 300, seed=11)
    low, high = np.percentile(changes, [2.5, 97.5])
    assert found.change.value == pytest.approx(after.mean() - before.mean())
    assert (found.change.low, found.change.high) == pytest.approx((low, high))
    assert found.before.value == pytest.approx(before.mean())
    assert found.after.n == 23


def test_agrees_with_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(2)
    before = generator.random(80)
    after = np.clip(before - 0.2 + 0.1 * generator.normal(size=80), 0, 1)
    ours = paired_bootstrap(_means(before), _means(after), n_resamples=4000).change
    theirs = stats.bootstrap(
        (before, after),
        lambda b, a, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.high, abs=0.003)


def test_pairing_narrows_the_interval() -> None:
    """Prompts differ by 10, half of them changes by 1: little doubt of the change, much of both."""
    before = np.arange(0, 200, 10.0)
    found = paired_bootstrap(_means(before), _means(before + np.tile([0, 1], 10)))
    assert 0.2 < found.change.low < found.change.high < 0.8
    assert found.before.high - found.before.low > 30


@pytest.mark.parametrize("by", [0.0, 0.1, -3.0])
def test_resamples_that_all_coincide_give_no_interval(by: float) -> None:
    """But for rounding: sums of tenths in another order are not quite equal."""
    before = np.full(23, 0.1)
    found = paired_bootstrap(_means(before), _means(before + by))
    for each in found:
        assert math.isnan(each.low) and math.isnan(each.high) and each.method is None
    assert found.change.value == pytest.approx(by)
    assert found.change.to_json() == {
        "value": found.change.value, "low": None, "high": None, "n": 23, "method": None,
    }  # fmt: skip


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        before = generator.normal(1.0, 1.0, size=50)
        after = before + generator.normal(-0.3, 0.5, size=50)
        change = paired_bootstrap(_means(before), _means(after), n_resamples=400, seed=seed).change
        hits += change.low <= -0.3 <= change.high
    assert 0.90 <= hits / 300 <= 0.98


def test_perplexity_is_a_ratio_of_sums() -> None:
    rows = np.array([[3.0, 1.0], [1.0, 9.0], [20.0, 10.0]])
    drawn = resampled_sums(rows, 50, seed=3)
    picks = np.random.default_rng(3).integers(0, 3, size=(50, 3))
    expected = [math.exp(rows[p, 0].sum() / rows[p, 1].sum()) for p in picks]
    np.testing.assert_allclose(perplexity(drawn[1:, 0], drawn[1:, 1]), expected)
    assert perplexity(drawn[0, 0], drawn[0, 1]) == pytest.approx(math.exp(24 / 20))


def test_chunks_do_not_change_the_draws() -> None:
    rows = np.random.default_rng(1).integers(0, 99, size=(17, 3)).astype(float)
    whole = resampled_sums(rows, 101, seed=4)
    for cells in (1, 17 * 3, 17 * 100):
        np.testing.assert_array_equal(resampled_sums(rows, 101, seed=4, max_cells=cells), whole)
    assert module.MAX_CELLS * 8 <= 64 * 2**20


def test_seed_decides() -> None:
    rows = _means(np.arange(20.0))
    assert bootstrap(rows, seed=1) == bootstrap(rows, seed=1)
    assert bootstrap(rows, seed=1) != bootstrap(rows, seed=2)


def test_no_prompt_and_one_prompt() -> None:
    none = bootstrap(np.zeros((0, 2)))
    assert (math.isnan(none.value), math.isnan(none.low), none.n) == (True, True, 0)
    one = paired_bootstrap(_means([0.5]), _means([1.0])).change
    assert (one.value, one.n) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_a_missing_or_infinite_score_makes_the_metric_undefined() -> None:
    for broken in (math.nan, math.inf):
        found = paired_bootstrap(_means([1.0, 2.0, 3.0]), _means([1.0, broken, 3.0]))
        assert found.before.value == 2.0
        assert math.isnan(found.after.value)
        assert math.isnan(found.change.value)
        assert math.isnan(found.change.low)


def test_resamples_without_a_value_are_left_out() -> None:
    """One of 5 rows counts: a third of the resamples have no value, the others 1 or 2."""
    rows = np.array([[1.0, 1.0], [2.0, 1.0], [0, 0], [0, 0], [0, 0]])
    found = bootstrap(rows)
    assert (found.value, found.low, found.high) == (1.5, 1, 2)


def test_a_function_of_all_rows_is_resampled_as_sums_are() -> None:
    """The mean, once as what adds up and once as a function of the rows."""
    values = np.random.default_rng(3).normal(size=31)
    sums = estimate(Sums(_means(values)), Resampling(400))
    whole = estimate(Sample(values, lambda rows: float(np.mean(rows))), Resampling(400))
    assert (whole.value, whole.low, whole.high, whole.n) == pytest.approx(
        (sums.value, sums.low, sums.high, sums.n)
    )


def test_a_median_equals_a_plain_loop() -> None:
    values = np.random.default_rng(4).normal(size=25)
    found = estimate(Sample(values, lambda rows: float(np.median(rows))), Resampling(300, seed=2))
    picks = np.concatenate(list(draws(25, 300, 2)))
    low, high = np.percentile([np.median(values[p]) for p in picks], [2.5, 97.5])
    assert (found.value, found.low, found.high) == pytest.approx((np.median(values), low, high))


def test_infinite_resamples_do_not_warn() -> None:
    rows = np.array([[5000.0, 1.0], [1.0, 1.0], [2.0, 1.0]])

    def exponential(sums: np.ndarray) -> np.ndarray:
        return perplexity(sums[:, 0], sums[:, 1])

    found = bootstrap(rows, exponential)
    assert found.value == math.inf
    assert found.low == pytest.approx(math.exp(1))


def test_a_thousand_prompts_cost_little_more_than_ten() -> None:
    """Resamples are sums of rows, made in few products: well under a second for BLEU."""
    texts = [f"the answer number {i} is about {i * 7 % 13} apples" for i in range(1000)]
    counts = bleu_statistics(texts, texts[::-1]).astype(float)
    found = bootstrap(counts, bleu_of_sums)
    assert found.low < found.value < found.high
    ten, all_of_them = (lines_run(bootstrap, rows, bleu_of_sums) for rows in (counts[:10], counts))
    assert all_of_them < 1.5 * ten


def test_bad_settings_are_refused() -> None:
    rows = _means([1.0, 2.0])
    with pytest.raises(ConfigError, match="n_resamples is 0"):
        bootstrap(rows, n_resamples=0)
    with pytest.raises(ConfigError, match="confidence is 95"):
        bootstrap(rows, confidence=95)
    with pytest.raises(ConfigError, match="shape"):
        bootstrap(np.zeros(3))
    with pytest.raises(ConfigError, match="same prompts"):
        paired_bootstrap(rows, _means([1.0]))


def test_ratio_of_nothing_is_undefined() -> None:
    values = ratio(np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert math.isnan(values[0])
    assert values[1] == 0.5


def test_an_undefined_value_has_no_interval() -> None:
    """Though resamples without the missing score have a value."""
    sample = Sample(np.array([np.nan, 1.0, 2.0]), lambda rows: float(np.mean(rows)))
    assert np.isfinite(sample.resampled(200, 0)).any()
    assert np.isnan(percentile.interval(sample, Resampling(200))).all()


def test_another_seed_draws_others_also_from_the_same_statistic() -> None:
    sums = Sums(np.array([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0]]))
    first, second = sums.resampled(50, 0), sums.resampled(50, 1)
    assert first[0] == second[0] and not np.array_equal(first, second)
    assert np.array_equal(sums.resampled(50, 0), first)
