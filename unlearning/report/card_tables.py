"""Tables of the model card in Markdown, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearning.report.markdown import inline
from unlearning.report.stages import stages
from unlearning.report.stages_table import stage_groups
from unlearning.report.tables import Cell, metric_tables


def sets_table(metrics: Mapping[str, Any], key_only: bool = True) -> list[str]:
    """Makes the table of every prompt set's figures, for each model, with the change.

    Args:
        key_only: those that the set puts in front; False: of sets without a kind only.
    """
    labels = [stage.label for stage in stages(metrics)]
    columns = [*labels, *(["Change"] if len(labels) > 1 else [])]
    lines = [
        f"| Prompt set | Metric | {' | '.join(map(inline, columns))} |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for table in metric_tables(metrics):
        if not key_only and table.kind:
            continue
        for row in table.rows:
            note = "; ".join(filter(None, (row.wanted, row.methods)))
            note = f" ({note})" if note else ""
            cells = " | ".join(map(_written, row.cells))
            lines.append(f"| {inline(table.name)} | {inline(row.label + note)} | {cells} |")
    return lines if len(lines) > 2 else []


def models_table(metrics: Mapping[str, Any]) -> list[str]:
    """Makes the table of every score of every model, in the form of the paper's Table 2."""
    labels = [stage.label for stage in stages(metrics)]
    columns = [*labels, f"Change from {labels[0].lower()}"]
    lines = [f"| Score | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for group in stage_groups(metrics):
        title = f"{group.title}: {inline(group.name)}" if group.name else group.title
        note = f" ({group.note})" if group.note else ""
        lines.append(f"| **{title}**{note} |" + " |" * len(columns))
        for row in group.rows:
            cells = " | ".join(map(_written, row.cells))
            methods = f" ({row.methods})" if row.methods else ""
            lines.append(f"| {inline(row.label + methods)} | {cells} |")
    return lines


def _written(cell: Cell) -> str:
    return f"{cell.text} ({cell.small})" if cell.small else cell.text
