"""Intervals of a mean over seeds, over both the seeds and the prompts that all of them were asked.

The same prompts under every seed are a crossed design: seeds and prompts are resampled
independently (the pigeonhole bootstrap of Owen, Annals of Applied Statistics 2007). Resample b of
`resamples.npz` draws the same prompts in every run, so that its values under all seeds are those of
one resample of the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearning.report.sweep.students_t import two_sided

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unlearning.report.sweep.folder import Job
    from unlearning.report.sweep.measures import Measure

FILE, PROMPTS = "resamples.npz", "prompts"
FEWEST_SEEDS = 3
MOST_FREEDOM = 1000
"""Degrees of freedom beyond which t is the normal distribution to three digits."""


def half_width(
    values: Sequence[float], resampled: NDArray[np.float64], confidence: float = 0.95
) -> float | None:
    """Returns half the width of the interval of the mean over seeds.

    The bootstrap gives the variance: that between seeds within a resample of the prompts, its mean
    over resamples, / S, and that between resamples of the mean over seeds. Drawing S - 1 of S seeds
    in each resample (Rao and Wu, JASA 1988), which leaves the variance of a mean unbiased, has this
    variance exactly, so that no seeds need to be drawn. The quantile is Student's t, since a
    percentile of three seeds never leaves their range; its degrees of freedom are Satterthwaite's,
    S - 1 where seeds alone scatter.

    Args:
        values: of the figure under each of S seeds, at least `FEWEST_SEEDS`.
        resampled: [S, B] the same in each resample of the prompts.
        confidence: of the interval.

    Returns:
        None where nothing scatters, or a resample has no finite value.
    """
    import numpy as np

    count = len(values)
    if not (np.isfinite(resampled).all() and np.isfinite(values).all()):
        return None
    of_seeds = float(resampled.var(axis=0, ddof=1).mean()) / count
    of_prompts = float(resampled.mean(axis=0).var(ddof=1))
    total = of_seeds + of_prompts
    if total <= 1e-18 * max(1.0, max(map(abs, values))) ** 2:
        return None
    share = of_seeds / total
    freedom = MOST_FREEDOM if share == 0 else min(MOST_FREEDOM, (count - 1) / share**2)
    return two_sided(math.floor(freedom), confidence) * math.sqrt(total)


def crossed_resamples(runs: Sequence[Job], measure: Measure) -> NDArray[np.float64] | None:
    """Returns a measure of several runs in each resample of the prompts, [runs, B].

    Of several sets the worst speaks for a run in each resample, as it does in its figure.

    Returns:
        None for too few runs, where a run's folder lacks the values, or where the prompts were not
        the same: each seed has prompts of its own then, whose scatter is in that of the seeds.
    """
    sets = measure.sets(runs[0].metrics)
    others = any(measure.sets(job.metrics) != sets for job in runs)
    if len(runs) < FEWEST_SEEDS or others or not sets:
        return None
    import numpy as np

    sign = -1.0 if measure.more_is_better else 1.0
    worst: list[NDArray[np.float64]] = []
    asked: list[list[str]] = []
    for job in runs:
        names = [*measure.stored_names(job.metrics), *(f"{PROMPTS}/{name}" for name in sets)]
        arrays = _read(job.folder / FILE, names)
        if arrays is None:
            return None
        asked.append([str(digest) for digest in arrays[len(sets) :]])
        worst.append(np.max([sign * array.astype(float) for array in arrays[: len(sets)]], axis=0))
    same = all(each == asked[0] for each in asked) and len({each.shape for each in worst}) == 1
    return sign * np.stack(worst) if same else None


def _read(path: Path, names: Sequence[str]) -> list[NDArray[Any]] | None:
    if not path.is_file():
        return None
    import zipfile
    import zlib

    import numpy as np

    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # of another version, or damaged: the figures alone are used
