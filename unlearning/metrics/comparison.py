"""Computes the contents of `metrics.json` from the answers of one or several models.

A pure function of `generations.jsonl`: nothing is generated, loaded or classified here, so that a
score can be computed again, or a new one added, long after the models are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unlearning.errors import ConfigError
from unlearning.metrics.aggregate import Aggregate, joint
from unlearning.metrics.bootstrap import Change, Resampling, difference
from unlearning.metrics.estimate import estimate, estimate_change
from unlearning.metrics.generations import by_prompt_set
from unlearning.metrics.metric import Metric
from unlearning.metrics.novelty import known_words
from unlearning.metrics.settings import ComparisonSettings
from unlearning.metrics.similarity import bleu_signature
from unlearning.metrics.statistic import Fixed, Statistic
from unlearning.types import Generation

__all__ = ["ComparisonSettings", "compare"]

AGGREGATES = "aggregates"
"""What stands before the slash of a figure that is of several prompt sets."""
Answers = Mapping[str, Sequence[Generation]]


@dataclass(frozen=True)
class Measured:
    """A metric's statistic for each model that it has a value for."""

    metric: Metric
    sides: Mapping[str, Statistic]


def compare(
    answers: Answers,
    sets: Mapping[str, Sequence[Metric]],
    settings: ComparisonSettings | None = None,
    aggregates: Mapping[str, Aggregate] | None = None,
) -> dict[str, Any]:
    """Computes every metric of every prompt set for each model, and the changes, with intervals.

    Args:
        answers: of each model by its name, in order: one (`{"model": ...}`), two
            (`{"before": ..., "after": ...}`), or more, the first being the one that `*_to_original`
            compares with (`original`, `before`, `after`). Matched by prompt set and index.
        sets: the metrics of each prompt set, see `metrics_of_kind`; also the order of the output.
        settings: thresholds, and how intervals are made.
        aggregates: figures of several sets, by name.

    Returns:
        `models`: the names; by name, `<prompt_set>/<metric>` to `value`, `low`, `high`, `n` and
        the interval's `method`; `change`: the same of the last model minus the one before it, in
        the metric's unit; of three, also `change_from_<first>`;
        `metrics`: label, unit, direction and import path by name; `settings`, `signatures`.
        Plain JSON: what is undefined (0 / 0, infinite, missing for some prompts) is None.

    Raises:
        ConfigError: the models do not answer the same prompts, a prompt set has no entry in `sets`,
            or two metrics have one name.
    """
    return compared(answers, sets, settings, aggregates).to_json()


@dataclass(frozen=True)
class Comparison:
    """The statistics of every metric, by `<prompt_set>/<metric>`.

    Args:
        names: of the models, in order.
        measured: a metric with its statistic for each model.
        settings: thresholds, and how intervals are made.
    """

    names: list[str]
    measured: Mapping[str, Measured]
    settings: ComparisonSettings

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """The names of the sections of changes, with the models that each is between."""
        return _changes(self.names)

    def to_json(self) -> dict[str, Any]:
        """Estimates everything, as `compare` returns it."""
        result: dict[str, Any] = {part: {} for part in (*self.names, *self.changes)}
        for key, each in self.measured.items():
            _write(result, key, each, self.changes, self.settings.resampling)
        return {
            **result,
            "models": self.names,
            "metrics": _declarations(self.measured),
            "signatures": dict.fromkeys(("bleu_to_original", "bleu_to_target"), bleu_signature()),
            "settings": asdict(self.settings),
        }


def compared(
    answers: Answers,
    sets: Mapping[str, Sequence[Metric]],
    settings: ComparisonSettings | None = None,
    aggregates: Mapping[str, Aggregate] | None = None,
) -> Comparison:
    """Computes the statistics that `compare` estimates from; arguments and errors are the same."""
    settings = settings or ComparisonSettings()
    names = list(answers)
    _check_models(names)
    rows = by_prompt_set(answers)
    if missing := [name for name in rows if name not in sets]:
        raise ConfigError(
            f"prompt sets without metrics: {missing}; expected an entry for each of {list(rows)}."
        )
    context = {
        **{name: getattr(settings, name) for name in ("harm_threshold", "rouge_threshold")},
        "known_words": known_words(answers[names[-1]]),
    }
    measured: dict[str, Measured] = {}
    for prompt_set in (name for name in sets if name in rows):
        for metric in sets[prompt_set]:
            key = f"{prompt_set}/{metric.name}"
            if key in measured:
                raise _same_name(metric.name, measured[key].metric.path, metric.path)
            if sides := _sides(metric, rows[prompt_set], names, context):
                measured[key] = Measured(metric, sides)
    for name, aggregate in (aggregates or {}).items():
        sides = joint(name, aggregate, measured, names, context)
        measured[f"{AGGREGATES}/{name}"] = Measured(aggregate.metric, sides)
    return Comparison(names, measured, settings)


def _changes(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    found = {"change": (names[-2], names[-1])} if len(names) > 1 else {}
    if len(names) > 2:
        found[f"change_from_{names[0]}"] = (names[0], names[-1])
    return found


def _sides(
    metric: Metric,
    rows: Mapping[str, list[Generation]],
    names: Sequence[str],
    context: Mapping[str, Any],
) -> dict[str, Statistic]:
    """Computes the statistic of each model; empty where the metric does not apply, or no prompt
    of any model has a score."""
    found: dict[str, Statistic] = {}
    baseline = names[-2:][0] if metric.against == "previous" else names[0]
    for name in names:
        if metric.against == "previous" and name != names[-1]:
            continue
        if metric.against is not None and len(names) == 1:
            continue
        if name == baseline and metric.against == "first" and metric.of_itself is not None:
            continue
        statistic = metric.statistic(rows[name], rows[baseline], context)
        if statistic is not None:
            found[name] = statistic
    if metric.against and metric.of_itself is not None and names[-1] in found:
        fixed = Fixed(found[names[-1]], metric.of_itself)
        found = {baseline: fixed, **found}
    return (
        {}
        if all(s.missing for s in found.values())
        else {name: found[name] for name in names if name in found}
    )


def _write(
    result: dict[str, Any],
    key: str,
    measured: Measured,
    changes: Mapping[str, tuple[str, str]],
    how: Resampling,
) -> None:
    metric, sides = measured.metric, measured.sides
    for name, statistic in sides.items():
        hidden = metric.against == "previous" and isinstance(statistic, Fixed)
        if not hidden:
            result[name][key] = estimate(statistic, how, metric.interval).to_json()
    for change, (first, last) in changes.items():
        if first not in sides or last not in sides:
            continue
        for name, function in stated_changes(key, metric).items():
            found = estimate_change(sides[first], sides[last], function, how, metric.interval)
            result[change][name] = found.to_json()


def stated_changes(key: str, metric: Metric) -> dict[str, Change]:
    """Returns the changes of a metric by the key of each: the difference, and those it declares."""
    prompt_set = key.rpartition("/")[0]
    named = {f"{prompt_set}/{name}": each.function for name, each in metric.changes.items()}
    return {key: difference, **named}


def _declarations(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Returns label, unit, direction and import path of every metric, and of every stated
    change."""
    found: dict[str, Any] = {}
    for key, each in measured.items():
        name, metric = key.rpartition("/")[2], each.metric
        entry = {
            "label": metric.label, "unit": metric.unit, "path": metric.path,
            "direction": metric.direction,
        }  # fmt: skip
        known = found.setdefault(name, entry)
        if any(known[part] != entry[part] for part in ("label", "unit", "path")):
            raise _same_name(name, found[name]["path"], metric.path)
        for change, stated in metric.changes.items():
            found.setdefault(change, {
                "label": stated.label, "unit": stated.unit, "path": metric.path,
                "direction": stated.direction,
            })  # fmt: skip
    return found


def _same_name(name: str, first: str, second: str) -> ConfigError:
    return ConfigError(
        f"two metrics are called {name!r}: {first} and {second}. Give one of them another name: "
        "metrics: [{path: ..., name: ...}]."
    )


def _check_models(names: Sequence[str]) -> None:
    reserved = {"change", "models", "metrics", "signatures", "settings", "prompt_sets"}
    if not names or reserved & set(names):
        raise ConfigError(
            f"models are called {list(names)}; expected one or more, none of them "
            f"{', '.join(sorted(reserved))}."
        )
