"""Converts `metrics.json` to rows of formatted figures for the template."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearning.nested import leaves
from unlearning.report.figures import (
    DASH,
    Figure,
    Unit,
    figure,
    lookup,
    plain,
    prompt_sets,
    section,
    write_interval,
    write_number,
)
from unlearning.report.methods import methods_of
from unlearning.report.sets import set_facts, split_of
from unlearning.report.specs import front, order, spec
from unlearning.report.stages import stages


@dataclass(frozen=True)
class Cell:
    """A formatted figure. `value` is the exact number, for machines and for tests.

    Args:
        muted: it is a change that may be chance.
        no_interval: it was measured, and its interval says nothing.
    """

    value: float | None
    text: str
    interval: str
    muted: bool = False
    no_interval: bool = False

    @property
    def small(self) -> str:
        """The small print under the figure: its interval, or a dash."""
        return DASH if self.no_interval else self.interval


@dataclass(frozen=True)
class Row:
    """One metric: a cell per measured model, then the change; `methods`: of their intervals."""

    label: str
    wanted: str
    cells: tuple[Cell, ...]
    methods: str = ""


@dataclass(frozen=True)
class Table:
    """One prompt set: its key metrics in every stage, and those behind a click."""

    name: str
    kind: str
    n: int | None
    split: str
    part: str
    rows: list[Row]
    more: list[Row]


def metric_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Makes one table per prompt set, in the order of the file."""
    tables = []
    for name, kind in prompt_sets(metrics).items():
        names, first = _metric_names(metrics, name), front(metrics, name)
        shown = {metric: _figures(metrics, name, metric) for metric in names}
        counts = [f.n for figures in shown.values() for f in figures if f.n is not None]
        rows = {metric: _row(metrics, name, metric, shown[metric]) for metric in names}
        ahead = [rows[metric] for metric in names if not first or metric in first]
        more = [rows[metric] for metric in names if first and metric not in first]
        split, part = split_of(metrics, name), str(set_facts(metrics, name).get("part") or "")
        tables.append(Table(name, kind, max(counts, default=None), split, part, ahead, more))
    return tables


def _row(metrics: Mapping[str, Any], name: str, metric: str, figures: Sequence[Figure]) -> Row:
    """Makes the row of a metric; with several models, the last figure is the change."""
    shown, count = spec(metrics, name, metric), len(stages(metrics))
    measured = (cell(figure, shown.unit) for figure in figures[:count])
    change = (cell(figure, shown.unit, difference=True) for figure in figures[count:])
    methods = methods_of(figures[:count], figures[count:])
    return Row(shown.label, shown.note, (*measured, *change), methods)


def _metric_names(metrics: Mapping[str, Any], prompt_set: str) -> list[str]:
    """Returns the set's metrics: known ones in their usual order, then any others."""
    several = len(stages(metrics)) > 1  # of one model there is nothing to compare, and no gap
    found: dict[str, None] = dict.fromkeys(front(metrics, prompt_set) if several else ())
    for part in _sections(metrics):
        for key in section(metrics, part):
            if key.rpartition("/")[0] == prompt_set:
                found[key.rpartition("/")[2]] = None
    known = dict.fromkeys(order(metrics))
    return [name for name in known if name in found] + [n for n in found if n not in known]


def _figures(metrics: Mapping[str, Any], name: str, metric: str) -> list[Figure]:
    return [lookup(metrics, part, name, metric) for part in _sections(metrics)]


def _sections(metrics: Mapping[str, Any]) -> list[str]:
    """Returns one section per model and, with several models, the change."""
    measured = [stage.key for stage in stages(metrics)]
    return [*measured, "change"] if len(measured) > 1 else measured


def cell(shown: Figure, unit: Unit, difference: bool = False) -> Cell:
    """Formats a figure. A difference whose interval includes zero is muted: it may be chance."""
    muted = False
    if difference and shown.low is not None and shown.high is not None:
        muted = shown.low <= 0 <= shown.high
    text = write_number(shown.value, unit, difference)
    interval = write_interval(shown, unit, difference)
    missing = shown.stated and shown.value is not None and not interval
    return Cell(shown.value, text, interval, muted, missing)


_CLASSIFIER = {
    "accuracy": ("Accuracy", "rate"),
    "precision": ("Precision", "rate"),
    "recall": ("Recall", "rate"),
    "f1": ("F1", "plain"),
    "roc_auc": ("ROC-AUC", "plain"),
    "expected_calibration_error": ("Calibration error", "plain"),
    "threshold": ("Decision threshold", "plain"),
}


def classifier_rows(metrics: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Returns the classifier's held-out scores; empty where nothing is known of it."""
    measured = section(metrics, "classifier")
    if not measured:
        return []
    if "calibration_error" in measured:
        measured = {**measured, "expected_calibration_error": measured["calibration_error"]}
    rows = []
    for key, (label, unit) in _CLASSIFIER.items():
        known_unit: Unit = "rate" if unit == "rate" else "plain"
        rows.append((label, cell(figure(measured.get(key)), known_unit)))
    known = {*_CLASSIFIER, "calibration_error", "reliability"}  # the latter is drawn
    for key, text in flat_rows({k: v for k, v in measured.items() if k not in known}):
        rows.append((key.replace("_", " "), Cell(None, text, "")))
    return rows


def flat_rows(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns nested names joined with dots, and each value as text."""
    return [(name, _written(value)) for name, value in leaves(mapping, lists=False)]


def _written(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or DASH
    return plain(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def write_seconds(seconds: float | None) -> str:
    """Formats a duration in the two largest units that it needs."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def write_bytes(megabytes: float | None) -> str | None:
    """Formats memory in MB below 1000 MB, in GB from there."""
    if megabytes is None:
        return None
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
