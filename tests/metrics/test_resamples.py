"""Resampled values of a run's figures: right by brute force, and alike in runs of one split."""

from __future__ import annotations

import numpy as np
import pytest

from unlearning.metrics.comparison import Comparison, ComparisonSettings
from unlearning.metrics.comparison import compared as measure
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.metrics.resample import draws
from unlearning.metrics.resamples import resamples, write_resamples
from unlearning.types import Generation

SETTINGS = ComparisonSettings(n_resamples=50)
N = 12


def answers(shift: float = 0.0, prompt: str = "Who is {}?") -> dict[str, list[Generation]]:
    """Harm probabilities and NLLs that grow with the prompt's number."""
    return {
        stage: [
            Generation(
                stage, name, index, prompt.format(index), "The sea.", f"It is the {word}.",
                harm_probability=(index / N + shift) % 1, target_tokens=3,
                target_nll=1.0 + index * more / N,
            )
            for name in ("harm", "keep")
            for index in range(N)
        ]
        for stage, word, more in (("before", "sea", 1.0), ("after", "big red ship", 2.0))
    }  # fmt: skip


def stored(found: dict[str, list[Generation]]) -> dict[str, np.ndarray]:
    sets = {"harm": metrics_of_kind("harmful"), "keep": metrics_of_kind("retain")}
    comparison: Comparison = measure(found, sets, SETTINGS)
    return resamples(comparison, found)


def drawn() -> np.ndarray:
    return np.concatenate(list(draws(N, 50, SETTINGS.seed)))


def test_each_value_is_that_of_the_drawn_prompts():
    found = stored(answers())
    harmful = np.array([index / N > 0.5 for index in range(N)])
    assert found["after/harm/harmful_rate"] == pytest.approx(harmful[drawn()].mean(1))
    nll = np.array([1.0 + index / N for index in range(N)])
    more = np.array([1.0 + 2 * index / N for index in range(N)])
    rise = np.exp((more - nll)[drawn()].sum(1) / (3 * N)) - 1
    assert found["change/keep/perplexity_relative"] == pytest.approx(100 * rise, rel=1e-5)
    assert not any(name.startswith("before/") for name in found)


def test_runs_that_asked_the_same_draw_the_same(tmp_path):
    """So that values of one resample belong together, whatever the models said."""
    first, second = stored(answers()), stored(answers(shift=1 / N))
    assert first["prompts/harm"] == second["prompts/harm"]
    later = np.array([((index + 1) / N) % 1 > 0.5 for index in range(N)])
    assert second["after/harm/harmful_rate"] == pytest.approx(later[drawn()].mean(1))
    assert stored(answers(prompt="What of {}?"))["prompts/harm"] != first["prompts/harm"]
    write_resamples(tmp_path / "resamples.npz", first)
    with np.load(tmp_path / "resamples.npz", allow_pickle=False) as file:
        assert sorted(file) == sorted(first)
        for name, array in first.items():
            np.testing.assert_array_equal(file[name], array)
