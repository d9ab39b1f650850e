"""From the generations of each stage to the scores of `metrics.json`.

A pure function of `generations.jsonl`: nothing is generated, loaded or classified here, so that a
score can be computed again, or a new one added, long after the models are gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from unlearning.errors import ConfigError
from unlearning.metrics.bootstrap import (
    Change,
    Estimate,
    PairedEstimate,
    bootstrap,
    difference,
    paired_bootstrap,
)
from unlearning.metrics.generations import pair_generations
from unlearning.metrics.harm import effectiveness_of
from unlearning.metrics.likeness import Similarity
from unlearning.metrics.measure import Measure, Stage
from unlearning.metrics.measures import measure_set
from unlearning.metrics.novelty import known_words
from unlearning.metrics.settings import ComparisonSettings
from unlearning.metrics.similarity import bleu_signature
from unlearning.metrics.units import UNITS
from unlearning.types import Generation

__all__ = ["UNITS", "ComparisonSettings", "compare"]

KINDS = ("harmful", "copyright", "retain", "related")


def compare(
    before: Sequence[Generation],
    after: Sequence[Generation],
    kinds: Mapping[str, str],
    settings: ComparisonSettings | None = None,
    similarities: Mapping[str, Similarity] | None = None,
    original: Sequence[Generation] | None = None,
) -> dict[str, Any]:
    """Every metric of every prompt set at each stage, with the changes and their intervals.

    Args:
        before: the answers before unlearning.
        after: the answers after it; matched by prompt set and index, in any order.
        kinds: `harmful`, `copyright`, `retain` or `related` by prompt set; also the order of the
            output.
        similarities: further scores of an answer against another, by name; `bleurt` becomes
            `<prompt_set>/bleurt_to_original`, and `_to_target` for `copyright`.
        original: the answers of the model before fine-tuning, where there was one. It is then what
            `*_to_original` compares with; else the model before unlearning is.

    Returns:
        `before`, `after`, `change`: `<prompt_set>/<metric>` to `value`, `low`, `high`, `n`; with
        original answers also `original` and `change_from_original`;
        `effectiveness`: the same by harmful prompt set; `units`, `signatures`, `settings`.
        Plain JSON: what is undefined (0 / 0, infinite, missing for some prompts) is None.
        A change is after minus before (original), in the metric's unit (`perplexity_relative`: in
        percent).

    Raises:
        ConfigError: the stages do not answer the same prompts, or a prompt set has no kind.
    """
    settings = settings or ComparisonSettings()
    sets = pair_generations(before, after, original)
    _check_kinds(sets, kinds)
    known = known_words(before)
    changes: dict[str, Stage] = {"change": "before"}
    if original is not None:
        changes["change_from_original"] = "original"
    result: dict[str, Any] = {part: {} for part in (*reversed(changes.values()), "after", *changes)}
    result["effectiveness"] = {}
    for name, kind in kinds.items():
        if name not in sets:
            continue
        for measure in measure_set(sets[name], kind, settings, similarities or {}, known):
            for change, start in changes.items():
                if start != "original" or measure.original is not None:
                    _add(result, name, measure, change, start, settings)
            if kind == "harmful" and measure.name == "harmful_rate":
                removed = _pair(measure, "before", settings, effectiveness_of).change
                result["effectiveness"][name] = _json(removed, measure.count("before", "after"))
    result["units"] = dict(UNITS)
    result["signatures"] = dict.fromkeys(("bleu_to_original", "bleu_to_target"), bleu_signature())
    result["settings"] = asdict(settings)
    return result


def _add(
    result: dict[str, Any],
    prompt_set: str,
    measure: Measure,
    change: str,
    start: Stage,
    settings: ComparisonSettings,
) -> None:
    """The metric at both ends of one change, and the change."""
    key = f"{prompt_set}/{measure.name}"
    paired = _pair(measure, start, settings)
    if start != "before" or measure.in_before:
        result[start][key] = _json(paired.before, measure.count(start))
    result["after"].setdefault(key, _json(paired.after, measure.count("after")))
    result[change][key] = _json(paired.change, measure.count(start, "after"))
    for name, how in measure.changes.items():
        stated = _pair(measure, start, settings, how).change
        result[change][f"{prompt_set}/{name}"] = _json(stated, measure.count(start, "after"))


def _pair(
    measure: Measure, start: Stage, settings: ComparisonSettings, how: Change = difference
) -> PairedEstimate:
    first, options = measure.side(start), _options(settings)
    if not isinstance(first, float):
        return paired_bootstrap(first, measure.after, measure.value, how, **options)
    after = bootstrap(measure.after, measure.value, **options)
    fixed = Estimate(first, first, first, after.n)
    change = Estimate(after.value - first, after.low - first, after.high - first, after.n)
    return PairedEstimate(fixed, after, change)


def _options(settings: ComparisonSettings) -> dict[str, Any]:
    return {
        "n_resamples": settings.n_resamples,
        "confidence": settings.confidence,
        "seed": settings.seed,
    }


def _json(estimate: Estimate, n: int) -> dict[str, float | int | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    plain: dict[str, float | int | None] = {
        name: value if math.isfinite(value) else None for name, value in values.items()
    }
    return {**plain, "n": n}


def _check_kinds(prompt_sets: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    unnamed = [name for name in prompt_sets if name not in kinds]
    unknown = {name: kind for name, kind in kinds.items() if kind not in KINDS}
    if unnamed or unknown:
        raise ConfigError(
            f"prompt sets without a kind: {unnamed}; unknown kinds: {unknown}; expected one of "
            f"{', '.join(KINDS)} for each of {list(prompt_sets)}."
        )
