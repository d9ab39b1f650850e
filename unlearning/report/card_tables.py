"""The figures of a model card as Markdown tables, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearning.report.figures import (
    Figure,
    Unit,
    figure,
    lookup,
    prompt_sets,
    section,
    write_interval,
    write_number,
)
from unlearning.report.markdown import inline
from unlearning.report.specs import CORE, spec
from unlearning.report.stages import stages
from unlearning.report.stages_table import stage_groups


def sets_table(metrics: Mapping[str, Any]) -> list[str]:
    """The key metrics of every prompt set, before and after."""
    lines = ["| Prompt set | Metric | Before | After | Change |", "|---|---|---:|---:|---:|"]
    for name, kind in prompt_sets(metrics).items():
        lines += _rows(metrics, name, kind)
    return lines


def models_table(metrics: Mapping[str, Any]) -> list[str]:
    """Every score of every model, shaped as the paper's Table 2."""
    labels = [stage.label for stage in stages(metrics)]
    columns = [*labels, f"Change from {labels[0].lower()}"]
    lines = [f"| Score | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for group in stage_groups(metrics):
        title = f"{group.title}: {inline(group.name)}" if group.name else group.title
        note = f" ({group.note})" if group.note else ""
        lines.append(f"| **{title}**{note} |" + " |" * len(columns))
        for row in group.rows:
            cells = (f"{c.text} ({c.interval})" if c.interval else c.text for c in row.cells)
            lines.append(f"| {inline(row.label)} | {' | '.join(cells)} |")
    return lines


def _rows(metrics: Mapping[str, Any], name: str, kind: str) -> list[str]:
    rows = []
    for metric in CORE.get(kind, CORE["harmful"]):
        unit = spec(metric).unit
        before, after, change = (
            lookup(metrics, stage, name, metric) for stage in ("before", "after", "change")
        )
        cells = [
            _cell(before, unit),
            _cell(after, unit),
            _cell(change, unit, difference=True),
        ]
        rows.append(f"| {inline(name)} | {spec(metric).label} | {' | '.join(cells)} |")
    if name in section(metrics, "effectiveness"):
        effect = _cell(figure(section(metrics, "effectiveness")[name]), "percent")
        rows.append(f"| {inline(name)} | Effectiveness E | | {effect} | |")
    return rows


def _cell(shown: Figure, unit: Unit, difference: bool = False) -> str:
    interval = write_interval(shown, unit, difference)
    return write_number(shown.value, unit, difference) + (f" ({interval})" if interval else "")
