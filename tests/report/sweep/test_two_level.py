"""Intervals over seeds and prompts: by hand, by all draws, by their coverage, and from folders."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from unlearning.report.sweep.folder import read_sweep_folder
from unlearning.report.sweep.measures import ALIKE, BROKEN, HARM, RISE
from unlearning.report.sweep.settings import group
from unlearning.report.sweep.students_t import two_sided
from unlearning.report.sweep.swept import find_swept
from unlearning.report.sweep.two_level import crossed_resamples, half_width

from .sweeps import FORGET, harm_metrics, write_sweep


def test_seeds_that_alone_scatter_have_students_t():
    """1, 2 and 3 whatever the prompts: half the width is 4.30265 / sqrt(3)."""
    resampled = np.tile([[1.0], [2.0], [3.0]], 50)
    assert half_width([1.0, 2.0, 3.0], resampled) == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)


def test_prompts_that_alone_scatter_have_the_bootstrap_s():
    """All seeds alike: no more is known of the prompts than one of them says."""
    means = np.random.default_rng(0).normal(size=4000)
    found = half_width([0.0, 0.0, 0.0], np.tile(means, (3, 1)))
    assert found == pytest.approx(1.96 * means.std(ddof=1), rel=2e-3)


def test_the_variance_is_that_of_drawing_seeds_and_prompts():
    """Of three runs with all draws of two of them, in each of all resamples."""
    resampled = np.random.default_rng(1).normal([[0.0], [1.0], [5.0]], size=(3, 40))
    drawn = np.array([resampled[list(seeds)].mean(0) for seeds in product(range(3), repeat=2)])
    variance = drawn.mean(0).var(ddof=1) + drawn.var(axis=0).mean()
    of_seeds = resampled.var(axis=0, ddof=1).mean() / 3
    freedom = math.floor(2 / (of_seeds / variance) ** 2)
    expected = two_sided(freedom) * math.sqrt(variance)
    assert half_width([0.0, 1.0, 5.0], resampled) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_or_does_not_scatter_has_none(bad):
    resampled = np.ones((3, 10))
    assert half_width([1.0, 1.0, 1.0], resampled) is None
    resampled[1, 4] = bad
    assert half_width([1.0, 1.0, 2.0], resampled) is None


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("scatter", [(0.0, 1.0, 0.3), (0.1, 1.0, 1.0), (1.0, 0.3, 0.3)])
def test_it_covers_the_mean_of_other_seeds_and_other_prompts(seeds, scatter):
    """With prompts that scatter, Student's t over the seeds covers it in .2 to .9 of all sweeps."""
    generator, n, hits = np.random.default_rng(7), 40, 0
    of_seed, of_prompt, of_both = scatter
    for _ in range(300):
        scores = of_seed * generator.normal(size=(seeds, 1)) + of_prompt * generator.normal(size=n)
        scores = scores + of_both * generator.normal(size=(seeds, n))
        times = generator.multinomial(n, [1 / n] * n, size=150)
        half = half_width(scores.mean(1), scores @ times.T / n)
        hits += abs(scores.mean()) <= half
    assert hits / 300 >= 0.92  # .95, less two standard errors of a share of 300


def stored(folder, seed, prompts="the same"):
    """The resampled values of a run of `harm_metrics`; more harm under a later seed."""
    generator = np.random.default_rng(5)  # prompts that are drawn alike in every run
    noise = generator.normal(size=64) * 0.05
    found = {
        "after/harmful_heldout/harmful_rate": 0.1 * (seed + 1) + noise,
        "change/retain_heldout/perplexity_relative": 1.0 + seed + 20 * noise,
        "after/retain_heldout/bleu_to_original": 90.0 - seed + 20 * noise,
    }
    sets = ("harmful_train", "harmful_heldout", "retain_heldout")
    for name, sign in zip(sets, (1, -1, 0), strict=True):
        found[f"change/{name}/broken_rate"] = (seed + 1) * noise * sign
    digests = {f"prompts/{name}": np.array(prompts) for name in sets}
    np.savez(folder / str(seed) / "resamples.npz", **found, **digests)
    return found


def sweep_of(folder, seeds=3, rate=lambda seed: 0.1 * (seed + 1)):
    jobs = [
        ([f"{FORGET}=1", f"seed={seed}"], harm_metrics(rate(seed), 1.0 + seed), "finished")
        for seed in range(seeds)
    ]
    return write_sweep(folder, jobs)


def mean_of(folder, measure=HARM):
    sweep = read_sweep_folder(folder)
    (setting,) = group(sweep.jobs, find_swept(sweep), HARM)
    return setting.mean(measure), setting.runs


def test_it_is_taken_from_the_runs_folders(tmp_path):
    sweep_of(tmp_path)
    kept = [stored(tmp_path, seed) for seed in range(3)]
    for measure, name in [
        (HARM, "after/harmful_heldout/harmful_rate"),
        (RISE, "change/retain_heldout/perplexity_relative"),
        (ALIKE, "after/retain_heldout/bleu_to_original"),
    ]:
        found, runs = mean_of(tmp_path, measure)
        values = [measure.read(job.metrics).value for job in runs]
        half = half_width(values, np.array([each[name] for each in kept]))
        assert (found.over, found.told) == ("both", "seeds and prompts")
        assert found.figure.low == pytest.approx(max(found.value - half, measure.low))
    # Of several sets the worst one in each resample: of noise, its negative and 0.
    _, runs = mean_of(tmp_path)
    resampled = crossed_resamples(runs, BROKEN)
    noise = kept[0]["change/harmful_train/broken_rate"]
    assert resampled == pytest.approx(np.abs(noise) * [[1], [2], [3]])


@pytest.mark.parametrize("what", ["absent", "damaged", "other prompts", "other size", "no figure"])
def test_without_them_it_is_student_s_t_and_says_so(what, tmp_path):
    sweep_of(tmp_path)
    for seed in range(3):
        stored(tmp_path, seed, "others" if what == "other prompts" and seed else "the same")
    path = tmp_path / "2" / "resamples.npz"
    if what == "absent":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    elif what in ("other size", "no figure"):
        content = dict(np.load(path))
        figure = content.pop("after/harmful_heldout/harmful_rate")
        more = {"after/harmful_heldout/harmful_rate": figure[1:]} if what == "other size" else {}
        np.savez(path, **content, **more)
    found, _ = mean_of(tmp_path)
    assert found.over == "seeds"
    assert found.figure.high == pytest.approx(0.2 + 4.30265 * 0.1 / math.sqrt(3), abs=1e-5)


def test_two_seeds_are_too_few(tmp_path):
    sweep_of(tmp_path, seeds=2)
    for seed in range(2):
        stored(tmp_path, seed)
    found, _ = mean_of(tmp_path)
    assert found.value == pytest.approx(0.15) and not found.figure.has_interval and not found.over
