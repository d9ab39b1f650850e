"""HellaSwag (arXiv 1905.07830): which of four endings goes on with a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.jsonl import number_of, right_choice
from unlearning.data.records.cells import checked_text, list_of_texts
from unlearning.data.records.record_source import RecordSource
from unlearning.data.records.source import require_columns
from unlearning.types import Example

COLUMNS = ("ctx", "endings", "label")
OTHER_COLUMNS = ("question", "choices", "answer")
_BRACKETED = re.compile(r"\[.*?\]")


class HellaSwagDataModule(ExampleDataModule):
    """Reads HellaSwag: one Example a text, with its four endings as choices.

    Texts are cleaned as lm-evaluation-harness does it: of WikiHow's marks " [title]" becomes a full
    stop and others are dropped, and the activity stands before the text where it is known. Spaces
    at their ends are dropped, too, which it keeps.

    Args:
        source: hub id, or a local file or folder, with the columns ctx, endings and label, or
            question, choices and answer.
        records_split: of the hub `train` or `validation`; its `test` has no labels.
        config_name: of the hub data set.
        revision: commit on the hub.
        where: which records to take, for example `{activity_label: [Sharpening knives]}`; see
            `unlearning.data.records.where.RowFilter`.
        settings: see `ExampleDataModule`; without `fractions` all texts are in one split.
    """

    def __init__(
        self,
        source: str = "Rowan/hellaswag",
        records_split: str | None = "validation",
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        settings.setdefault("fractions", (1.0, 0.0, 0.0))
        super().__init__(**settings)
        self.source = source
        self.records = RecordSource(source, records_split, config_name, revision, where)

    def check(self) -> None:
        present = self.records.check()
        if present is not None:
            _columns(present, self.source)

    def read(self) -> Iterator[Example]:
        for row, record in self.records.selected():
            place = f"{self.source}, row {row}"
            text, choices, answer = _columns(record, place)
            cell = record[choices]
            endings = tuple(cleaned(each) for each in list_of_texts(cell, place))
            label = number_of(record[answer], place, cell)
            right = right_choice(endings, label, place)
            context = cleaned(_context(record, checked_text(record[text], place, "text")))
            for each in self.example(context, right, row=row, column=choices):
                yield Example(each.prompt, each.response, {"choices": endings}, label)


def cleaned(text: str) -> str:
    """Drops WikiHow's marks from a text.

    Examples:
        >>> cleaned("How to wake up [title] Do a check. [step] Look  around.")
        'How to wake up. Do a check. Look around.'
    """
    plain = _BRACKETED.sub("", text.strip().replace(" [title]", ". "))
    return plain.replace("  ", " ").strip()


def _context(record: Mapping[str, Any], text: str) -> str:
    """Joins activity and text; the sentence that the endings go on with is capitalised."""
    if record.get("ctx_a") is not None and record.get("ctx_b") is not None:
        text = f"{record['ctx_a']} {str(record['ctx_b']).capitalize()}"
    activity = record.get("activity_label")
    return f"{activity}: {text}" if activity else text


def _columns(present: Iterable[str], where: str) -> tuple[str, str, str]:
    names = list(present)
    wanted = COLUMNS if "question" not in names else OTHER_COLUMNS
    require_columns(names, wanted, where)
    return wanted
