"""Turn `metrics.json` into rows for the template: figures written out, their exact values kept."""

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
from unlearning.report.specs import CORE, SPECS, spec
from unlearning.report.stages import has_book, stages


@dataclass(frozen=True)
class Cell:
    """A figure, written out. `value` is the exact number, for machines and for tests."""

    value: float | None
    text: str
    interval: str
    muted: bool = False


@dataclass(frozen=True)
class Row:
    """One metric: a cell per measured model, then the change."""

    label: str
    wanted: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One prompt set: its key metrics in every stage, and those behind a click."""

    name: str
    kind: str
    n: int | None
    effectiveness: Cell | None
    rows: list[Row]
    more: list[Row]


def metric_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """One table per prompt set, in the order of the file."""
    effectiveness = section(metrics, "effectiveness")
    tables = []
    for name, kind in prompt_sets(metrics).items():
        names = _metric_names(metrics, name, kind)
        shown = {metric: _figures(metrics, name, metric) for metric in names}
        counts = [f.n for figures in shown.values() for f in figures if f.n is not None]
        front = [metric for metric in names if metric in CORE.get(kind, names)]
        rows = [_row(metrics, metric, kind, shown[metric]) for metric in front]
        more = [
            _row(metrics, metric, kind, shown[metric]) for metric in names if metric not in front
        ]
        effect = cell(figure(effectiveness[name]), "percent") if name in effectiveness else None
        tables.append(Table(name, kind, max(counts, default=None), effect, rows, more))
    return tables


def _row(metrics: Mapping[str, Any], metric: str, kind: str, figures: Sequence[Figure]) -> Row:
    """The last figure is the change."""
    shown = spec(metric, has_book(metrics))
    measured = (cell(figure, shown.unit) for figure in figures[:-1])
    change = cell(figures[-1], shown.unit, difference=True)
    return Row(shown.label, shown.wanted.get(kind, ""), (*measured, change))


def _metric_names(metrics: Mapping[str, Any], prompt_set: str, kind: str) -> list[str]:
    """The set's metrics: known ones in their usual order, then any others."""
    found: dict[str, None] = dict.fromkeys(CORE.get(kind, ()))
    for part in _sections(metrics):
        for key in section(metrics, part):
            if key.rpartition("/")[0] == prompt_set:
                found[key.rpartition("/")[2]] = None
    return [name for name in SPECS if name in found] + [name for name in found if name not in SPECS]


def _figures(metrics: Mapping[str, Any], name: str, metric: str) -> list[Figure]:
    return [lookup(metrics, part, name, metric) for part in _sections(metrics)]


def _sections(metrics: Mapping[str, Any]) -> list[str]:
    """One per stage, and what unlearning changed."""
    return [*(stage.key for stage in stages(metrics)), "change"]


def cell(shown: Figure, unit: Unit, difference: bool = False) -> Cell:
    """Write a figure out. A difference whose interval includes zero is muted: it may be chance."""
    muted = False
    if difference and shown.low is not None and shown.high is not None:
        muted = shown.low <= 0 <= shown.high
    text = write_number(shown.value, unit, difference)
    return Cell(shown.value, text, write_interval(shown, unit, difference), muted)


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
    """The judge's own quality on its held-out split; empty where nothing is known of it."""
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
    """Nested names joined with dots, and each value as text."""
    return [(name, _written(value)) for name, value in leaves(mapping, lists=False)]


def _written(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or DASH
    return plain(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def write_seconds(seconds: float | None) -> str:
    """A duration in the two largest units that it needs."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def write_bytes(megabytes: float | None) -> str | None:
    """Memory in MB below 1000 MB, in GB from there."""
    if megabytes is None:
        return None
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
