"""The table of the copyright experiment, in the form of Table 2 of arXiv 2405.15152.

Rows are scores and columns are models: the original, the fine-tuned and the unlearned one. The
change is from the original model, since a book is forgotten where nothing of the difference is
left, and normal text is kept where there is hardly any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from unlearning.report.figures import Figure, Unit, lookup, prompt_sets, section
from unlearning.report.methods import methods_of
from unlearning.report.sets import is_held_out, of_kind, set_facts
from unlearning.report.specs import spec
from unlearning.report.stages import has_book, since_start, stages
from unlearning.report.tables import Cell, Row, cell

_TO_BOOK = (
    "bleu_to_target", "rouge_l_to_target", "verbatim_tokens", "verbatim_chars",
    "extraction_strength", "exact_memorisation",
)  # fmt: skip
_TO_ORIGINAL = ("bleu_to_original", "rouge_l_to_original")
_AS_THE_PAPER = "embedding_to_target"
"""What the paper's released code computes: the cosine of two sentence embeddings."""

PAPER: tuple[tuple[str, tuple[str, str, str]], ...] = (
    ("OPT-1.3b, copyrighted text", (".13", ".67", ".01")),
    ("OPT-2.7b, copyrighted text", (".27", ".71", ".00")),
    ("OPT-1.3b, normal answers", (".611", ".102", ".371")),
    ("OPT-2.7b, normal answers", (".740", ".237", ".503")),
)
"""Table 2 of the paper: cosine similarities of the original, fine-tuned and unlearned model.

Of normal answers the paper does not say what they are compared with. The original model's own
figure is not 1, so it is not its answers; `embedding_to_target` is nearest."""


@dataclass(frozen=True)
class Group:
    """Rows under one heading; `name` is the prompt set where all rows are of one."""

    title: str
    name: str
    note: str
    rows: list[Row]


def stage_groups(metrics: Mapping[str, Any]) -> list[Group]:
    """Returns the groups of rows; none for a run without a book."""
    return list(_groups(metrics)) if has_book(metrics) else []


def _groups(metrics: Mapping[str, Any]) -> Iterator[Group]:
    books, retain = of_kind(metrics, "copyright"), of_kind(metrics, "retain")
    for name in sorted(books, key=partial(is_held_out, metrics)):
        note = (
            "a control: in no training"
            if is_held_out(metrics, name)
            else "passages that were trained on"
        )
        names = _with_measured(metrics, name, _TO_BOOK, "_to_target")
        rows = [_row(metrics, name, metric) for metric in names]
        yield Group("Similarity to the book", name, note, rows)
    for name in retain:
        names = _with_measured(metrics, name, _TO_ORIGINAL, "_to_original")
        if f"{name}/{_AS_THE_PAPER}" in section(metrics, "after"):
            names.append(_AS_THE_PAPER)
        rows = [_row(metrics, name, metric) for metric in names]
        yield Group("Similarity of normal answers to the original model's", name, "", rows)
    rows = [_perplexity(metrics, name, "the book") for name in books]
    rows += [_perplexity(metrics, name, "normal text") for name in retain]
    yield Group("Perplexity", "", "change in percent", rows)
    rows = [_row(metrics, name, "broken_rate", label=name) for name in prompt_sets(metrics)]
    yield Group("Broken answers", "", "", rows)


def _with_measured(
    metrics: Mapping[str, Any], name: str, always: tuple[str, ...], suffix: str
) -> list[str]:
    """Returns the usual scores, and any other similarity of this kind that was measured."""
    keys = (key.rpartition("/") for key in section(metrics, "after"))
    found = [metric for of, _, metric in keys if of == name and metric.endswith(suffix)]
    return list(dict.fromkeys([*always, *found]))


def _row(metrics: Mapping[str, Any], name: str, metric: str, label: str | None = None) -> Row:
    shown = spec(metrics, name, metric)
    measured, change = _measured(metrics, name, metric), since_start(metrics, name, metric)
    cells = (*_cells(measured, shown.unit), cell(change, shown.unit, difference=True))
    book = set_facts(metrics, name).get("kind") == "copyright"
    control = book and is_held_out(metrics, name)  # should stay as it is
    wanted = "" if control and label is None else shown.wanted
    return Row(label or shown.label, wanted, cells, methods_of(measured, [change]))


def _perplexity(metrics: Mapping[str, Any], name: str, of: str) -> Row:
    """Returns the row of perplexity with its change in percent, the unit of its limit."""
    change: Figure = since_start(metrics, name, "perplexity_relative")
    measured = _measured(metrics, name, "perplexity")
    cells = (*_cells(measured, "plain"), cell(change, "percent", difference=True))
    return Row(f"of {of}, {name}", "", cells, methods_of(measured, [change]))


def _measured(metrics: Mapping[str, Any], name: str, metric: str) -> list[Figure]:
    return [lookup(metrics, stage.key, name, metric) for stage in stages(metrics)]


def _cells(measured: list[Figure], unit: Unit) -> list[Cell]:
    return [cell(figure, unit) for figure in measured]
