"""PKU-SafeRLHF (arXiv 2406.15513): two answers to a prompt, each flagged safe or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Unpack, get_args

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.overlap import normalise
from unlearning.data.records.cells import parse_flag
from unlearning.data.records.files import Record
from unlearning.data.records.record_source import RecordSource
from unlearning.data.records.source import require_columns
from unlearning.data.records.where import RowFilter
from unlearning.errors import ConfigError
from unlearning.types import Example

Answers = Literal["unsafe", "safe", "related"]
PAIRS = {"response_0": "is_response_0_safe", "response_1": "is_response_1_safe"}
COLUMNS = ("prompt", *PAIRS, *PAIRS.values())
SINGLE = {"response": "is_safe"}
"""The columns of answers with those of their flags, in PKU-SafeRLHF and in BeaverTails."""


class PKUDataModule(ExampleDataModule):
    """Reads PKU-SafeRLHF, one Example per answer of the wanted kind; the unsafe ones are the forget
    set of arXiv 2405.15152. BeaverTails (arXiv 2307.04657), with one answer a record, is read too.

    Args:
        source: hub id, or a local file or folder with the columns of PKU-SafeRLHF (prompt,
            response_0, response_1, is_response_0_safe, is_response_1_safe) or of BeaverTails
            (prompt, response, is_safe).
        answers: `unsafe`, `safe`, or `related`: the safe answers to those prompts that have no
            unsafe answer anywhere in the source.
        records_split: which of the source's own splits to read, on the hub `train` or `test`, of
            BeaverTails `330k_train`, `30k_train` and the same with `test`.
        config_name: on the hub `default` (all models' answers), or those of one model
            (`alpaca-7b`, `alpaca2-7b`, `alpaca3-8b`).
        revision: commit on the hub. The data set was released anew in June 2024, after the paper.
        where: which records to take, for example `{category: {animal_abuse: true}}`; see
            `unlearning.data.records.where.RowFilter`. Whether a prompt has an unsafe answer
            anywhere is asked of all of them.
        mixed: only the answers of records that have both a safe and an unsafe one, so that each
            unsafe answer has a safe one to the same prompt: forget set and alternate answers.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        source: str = "PKU-Alignment/PKU-SafeRLHF",
        answers: Answers = "unsafe",
        records_split: str | None = "train",
        config_name: str | None = "default",
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        mixed: bool = False,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        if answers not in get_args(Answers):
            raise ConfigError(
                f"answers={answers!r}: expected one of {', '.join(get_args(Answers))}."
            )
        self.source = source
        self.answers = answers
        self.mixed = mixed
        self.records = RecordSource(source, records_split, config_name, revision, where)

    def check(self) -> None:
        present = self.records.check()
        if present is not None:
            answer_columns(present, self.source)

    def read(self) -> list[Example]:
        records, rows = list(self.records.everything()), self.records.row_filter()
        examples = [
            example
            for row, column, record in select_answers(
                records, self.answers, self.source, rows, self.mixed
            )
            for example in self.example(record["prompt"], record[column], row=row, column=column)
        ]
        if not examples:
            where = self.records.where
            flags = " and ".join(answer_columns(records[0], self.source).values())
            among = f" (of those that where={where} takes)" if where else ""
            among += " (of records that have a safe and an unsafe one: mixed=true)" * self.mixed
            raise ConfigError(
                f"{self.source} has no {self.answers} answer among its {len(records)} rows{among}. "
                f"Look at {flags}, or choose other answers (without related prompts: "
                "data.related=null)."
            )
        return examples


def answer_columns(present: Iterable[str], where: str) -> dict[str, str]:
    """Returns the columns of answers with those of their flags.

    Raises:
        ConfigError: they are neither those of PKU-SafeRLHF nor those of BeaverTails.
    """
    names = list(present)
    columns = SINGLE if "is_safe" in names and not set(PAIRS) & set(names) else PAIRS
    try:
        require_columns(names, ("prompt", *columns, *columns.values()), where)
    except ConfigError as error:
        raise ConfigError(
            f"{error} PKUDataModule reads the columns of PKU-SafeRLHF ({', '.join(COLUMNS)}) and "
            "of BeaverTails (prompt, response, is_safe); any others are for JsonlDataModule, for "
            "example with where={is_safe: false}."
        ) from None
    return columns


def select_answers(
    records: list[Record], answers: Answers, source: str, rows: RowFilter, mixed: bool = False
) -> Iterator[tuple[int, str, Record]]:
    """Yields (row number from 1, the answer's column, record) of every answer of the wanted kind
    in a record that the filter takes; with `mixed`, one that has both kinds."""
    flags: list[dict[str, bool]] = []
    for row, record in enumerate(records, start=1):
        where = f"{source}, row {row}"
        columns = answer_columns(record, where if row > 1 else source)
        flags.append(
            {a: parse_flag(record[f], f"{where}, column {f!r}") for a, f in columns.items()}
        )
    harmful_prompts = {
        normalise(str(record["prompt"]))
        for record, safe in zip(records, flags, strict=True)
        if not all(safe.values())
    }
    for row, (record, safe) in enumerate(zip(records, flags, strict=True), start=1):
        if not rows.takes(record, f"{source}, row {row}"):
            continue
        if mixed and len({*safe.values()}) < 2:
            continue
        if answers == "related" and normalise(str(record["prompt"])) in harmful_prompts:
            continue
        for column, is_safe in safe.items():
            if is_safe == (answers != "unsafe"):
                yield row, column, record
    rows.check_found()
