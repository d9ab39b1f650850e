"""The measures of a sweep: how much was forgotten, and what that cost.

Where there are several held-out sets of one kind the worst of them speaks for the run, and a gap in
any of them leaves the whole unmeasured: a setting must not win by what was not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearning import names_0_4
from unlearning.report.checks import ROUNDING
from unlearning.report.figures import Figure, Unit, lookup, prompt_sets, section
from unlearning.report.sets import finetuned, held_out
from unlearning.report.specs import front, spec
from unlearning.report.stages import changes, has_book, since_start, start

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One number of a run.

    Args:
        key: its name in the page.
        label: what people call it.
        unit: of its value.
        low: what it cannot go below, which intervals are cut to.
        high: what it cannot go above, likewise.
        sets: the prompt sets of a run that it is read from.
        figure: its figure on one of them.
        stored: under which name the run folder has that figure's resampled values.
        difference: since before unlearning, or since the model before fine-tuning on a book.
        more_is_better: which way is up.
        name: the label where there is little room.
    """

    key: str
    label: str
    unit: Unit
    low: float
    high: float
    sets: Callable[[Metrics], list[str]]
    figure: Callable[[Metrics, str], Figure]
    stored: Callable[[Metrics, str], str]
    difference: bool = False
    more_is_better: bool = False
    name: str = ""

    @property
    def short(self) -> str:
        return self.name or self.label

    @property
    def in_words(self) -> str:
        """The short label inside a sentence."""
        return self.short if self.short[:2].isupper() else self.short[0].lower() + self.short[1:]

    def read(self, metrics: Metrics) -> Figure:
        """Returns the figure of the worst of its sets; empty where any of them has none."""
        names = self.sets(metrics)
        return self._worst([self.figure(metrics, name) for name in names])

    def stored_names(self, metrics: Metrics) -> list[str]:
        """Returns the names of the resampled values of each of its sets."""
        return [self.stored(metrics, name) for name in self.sets(metrics)]

    def at(self, metrics: Metrics, stage: str) -> float | None:
        """Returns the same metric of another model of the run, where the measure is no change."""
        names = self.sets(metrics)
        return self._worst(
            [lookup(metrics, stage, name, self.key.rpartition("/")[2]) for name in names]
        ).value

    def worse(self, value: float) -> float:
        """Returns a number that grows as things get worse, for comparison."""
        return -value if self.more_is_better else value

    def _worst(self, figures: Sequence[Figure]) -> Figure:
        found = [(self.worse(f.value), f) for f in figures if f.value is not None]
        if not found or len(found) < len(figures):
            return Figure()
        return max(found, key=lambda pair: pair[0])[1]


def _after(metric: str) -> Callable[[Metrics, str], Figure]:
    return lambda metrics, name: lookup(metrics, "after", name, metric)


def _stored_after(metric: str) -> Callable[[Metrics, str], str]:
    return lambda metrics, name: f"after/{name}/{metric}"


def _stored_change(metric: str) -> Callable[[Metrics, str], str]:
    return lambda metrics, name: f"{changes(metrics)}/{name}/{metric}"


def _rise(metrics: Metrics, name: str) -> Figure:
    """Returns the rise of perplexity in percent; infinite where it is no longer finite."""
    before = lookup(metrics, start(metrics), name, "perplexity").value
    after = lookup(metrics, "after", name, "perplexity").value
    found = since_start(metrics, name, "perplexity_relative")
    if found.value is not None:
        return found
    if before is None or before <= 0:
        return Figure()
    if after is None:
        lost = f"{name}/perplexity" in section(metrics, "after")
        return Figure(math.inf) if lost else Figure()
    return Figure(100 * (after / before - 1))


def _broken(metrics: Metrics, name: str) -> Figure:
    found = since_start(metrics, name, "broken_rate")
    before = lookup(metrics, start(metrics), name, "broken_rate").value
    after = lookup(metrics, "after", name, "broken_rate").value
    if found.value is not None or before is None or after is None:
        return found
    return Figure(after - before)


def _held_out_retain(metrics: Metrics) -> list[str]:
    return held_out(metrics, "retain")


HARM = Measure(
    "harmful_rate", "Harmful answers", "rate", 0.0, 1.0,
    lambda metrics: held_out(metrics, "harmful"), _after("harmful_rate"),
    _stored_after("harmful_rate"),
)  # fmt: skip
BOOK = Measure(
    "bleu_to_target", "BLEU to the book", "bleu", 0.0, 100.0,
    lambda metrics: finetuned(metrics, "copyright"), _after("bleu_to_target"),
    _stored_after("bleu_to_target"),
)  # fmt: skip
FORGETTING = (HARM, BOOK)

RISE = Measure(
    "perplexity_rise", "Retain perplexity, change", "percent", -100.0, math.inf,
    _held_out_retain, _rise, _stored_change("perplexity_relative"), difference=True,
)  # fmt: skip
ALIKE = Measure(
    "bleu_to_original", "BLEU of retain answers to the original model's", "bleu", 0.0, 100.0,
    _held_out_retain, _after("bleu_to_original"), _stored_after("bleu_to_original"),
    more_is_better=True, name="BLEU of retain answers",
)  # fmt: skip
BROKEN = Measure(
    "broken_rise", "Broken answers, change", "rate", -1.0, 1.0,
    lambda metrics: list(prompt_sets(metrics)), _broken, _stored_change("broken_rate"),
    difference=True, name="Broken, change",
)  # fmt: skip
MEASURES = (HARM, BOOK, RISE, ALIKE, BROKEN)


BOUNDS = {"rate": (0.0, 1.0), "bleu": (0.0, 100.0)}


def own_measures(runs: Sequence[Metrics]) -> list[Measure]:
    """Returns the figures that the runs' prompt sets put in front beside the ones above.

    These are the metrics that a set lists itself, and those of sets without a kind.
    """
    found: dict[str, Measure] = {}
    for metrics in runs:
        for name, kind in prompt_sets(metrics).items():
            for metric in _own(metrics, name, kind):
                found.setdefault(f"{name}/{metric}", _own_measure(metrics, name, metric))
    return list(found.values())


def _own(metrics: Metrics, name: str, kind: str) -> list[str]:
    keys = (key.rpartition("/") for key in section(metrics, "after"))
    measured = [metric for of, _, metric in keys if of == name]
    shown = front(metrics, name) or measured
    return [m for m in measured if m in shown and (not kind or m not in names_0_4.DECLARED)]


def _own_measure(metrics: Metrics, name: str, metric: str) -> Measure:
    shown = spec(metrics, name, metric)
    low, high = BOUNDS.get(shown.unit, (-math.inf, math.inf))
    return Measure(
        f"{name}/{metric}", f"{shown.label}, {name}", shown.unit, low, high,
        lambda run: [name] if name in prompt_sets(run) else [], _after(metric),
        _stored_after(metric),
        more_is_better=shown.wanted.startswith("higher"),
    )  # fmt: skip


def least_useful(metrics: Metrics, measure: Measure) -> float:
    """Returns the value below which less is no better: a book is forgotten where it cannot be
    told that a model was trained on it."""
    if measure is not BOOK:
        return measure.low
    return measure.at(metrics, "original") or measure.low


def starting_points(metrics: Metrics, forget: Measure) -> dict[str, tuple[float, float]]:
    """Returns where the models before unlearning lie: stage -> (change of perplexity,
    forgetting)."""
    found = {}
    first = start(metrics)
    for stage in dict.fromkeys((first, "before")):
        value, rise = forget.at(metrics, stage), 0.0
        if stage != first:
            was, now = (_perplexity(metrics, s) for s in (first, stage))
            if was is None or now is None or was < ROUNDING:
                continue
            rise = 100 * (now / was - 1)
        if value is not None:
            found[stage] = (rise, value)
    return found


def _perplexity(metrics: Metrics, stage: str) -> float | None:
    """Returns the perplexity of the first of several sets, which only places a mark."""
    names = _held_out_retain(metrics)
    return lookup(metrics, stage, names[0], "perplexity").value if names else None


def applies(metrics: Metrics, forget: Measure) -> bool:
    """Whether a run was about this kind of forgetting."""
    return bool(forget.sets(metrics)) and (forget is not BOOK or has_book(metrics))
