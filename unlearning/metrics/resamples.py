"""Writes `resamples.npz`: the values of a run's figures in each bootstrap resample of its prompts.

Resample b draws the same prompts in every run that asked the same ones, so that figures of several
runs can be resampled together: of seeds, say, in the report of a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlearning.files.atomic import atomic_write
from unlearning.metrics.comparison import Answers, Comparison, stated_changes
from unlearning.metrics.statistic import Fixed, Statistic, Sums
from unlearning.types import Generation

RESAMPLES = "resamples.npz"
PROMPTS = "prompts"
"""Section of the prompts' digests, by prompt set."""


def resamples(comparison: Comparison, answers: Answers) -> dict[str, NDArray[np.generic]]:
    """Returns the resampled values [n_resamples] of the last model's figures and of the changes.

    Those of statistics that add up over prompts alone: others take long to resample.

    Args:
        answers: that the comparison is of.

    Returns:
        By `<section>/<prompt_set>/<metric>`, single precision; by `prompts/<prompt_set>` a digest
        of the prompts, the same for the same ones in the same order.
    """
    found: dict[str, NDArray[np.generic]] = {}
    last, how = comparison.names[-1], comparison.settings.resampling

    def values(statistic: Statistic) -> NDArray[np.float64]:
        return statistic.resampled(how.n_resamples, how.seed)[1:]

    for key, each in comparison.measured.items():
        sides = each.sides
        if not isinstance(sides.get(last), Sums):
            continue
        found[f"{last}/{key}"] = values(sides[last]).astype(np.float32)
        for section, (first, second) in comparison.changes.items():
            if not isinstance(sides.get(first), (Sums, Fixed)):
                continue
            for name, change in stated_changes(key, each.metric).items():
                changed = change(values(sides[first]), values(sides[second]))
                found[f"{section}/{name}"] = changed.astype(np.float32)
    return {**found, **_digests(answers[last])}


def write_resamples(path: Path, found: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes the arrays atomically, for `numpy.load`."""
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **found)  # type: ignore[arg-type]


def _digests(generations: Sequence[Generation]) -> dict[str, NDArray[np.generic]]:
    prompts: dict[str, list[str]] = {}
    for each in sorted(generations, key=lambda g: (g.prompt_set, g.index)):
        prompts.setdefault(each.prompt_set, []).append(f"{each.prompt!r} {each.target!r}")
    return {
        f"{PROMPTS}/{name}": np.array(hashlib.sha256("\n".join(texts).encode()).hexdigest())
        for name, texts in prompts.items()
    }
