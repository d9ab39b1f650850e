"""PKU-SafeRLHF (arXiv 2406.15513): two answers to a prompt, each flagged safe or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Unpack, get_args

from unlearning.data.cells import parse_flag
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.files import Record
from unlearning.data.overlap import normalise
from unlearning.data.source import check_source, iterate_records
from unlearning.errors import ConfigError
from unlearning.types import Example

Answers = Literal["unsafe", "safe", "related"]
FLAGS = ("is_response_0_safe", "is_response_1_safe")
COLUMNS = ("prompt", "response_0", "response_1", *FLAGS)


class PKUDataModule(ExampleDataModule):
    """Reads PKU-SafeRLHF, one Example per answer of the wanted kind; the unsafe ones are the forget
    set of arXiv 2405.15152.

    Args:
        source: hub id, or a local file or folder with the columns of PKU-SafeRLHF.
        answers: `unsafe`, `safe`, or `related`: the safe answers to those prompts that have no
            unsafe answer anywhere in the source.
        records_split: which of the source's own splits to read, on the hub `train` or `test`.
        config_name: on the hub `default` (all models' answers), or those of one model
            (`alpaca-7b`, `alpaca2-7b`, `alpaca3-8b`).
        revision: commit on the hub. The data set was released anew in June 2024, after the paper.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        source: str = "PKU-Alignment/PKU-SafeRLHF",
        answers: Answers = "unsafe",
        records_split: str | None = "train",
        config_name: str | None = "default",
        revision: str | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        if answers not in get_args(Answers):
            raise ConfigError(
                f"answers={answers!r}: expected one of {', '.join(get_args(Answers))}."
            )
        self.source = source
        self.answers = answers
        self.records_split = records_split
        self.config_name = config_name
        self.revision = revision

    def check(self) -> None:
        check_source(self.source, columns=COLUMNS, split=self.records_split)

    def read(self) -> list[Example]:
        records = list(
            iterate_records(
                self.source,
                columns=COLUMNS,
                split=self.records_split,
                config_name=self.config_name,
                revision=self.revision,
            )
        )
        examples = [
            example
            for row, number, record in select_answers(records, self.answers, self.source)
            for example in self.example(
                record["prompt"], record[f"response_{number}"], row=row, column=f"response_{number}"
            )
        ]
        if not examples:
            raise ConfigError(
                f"{self.source} has no {self.answers} answer among its {len(records)} rows. "
                f"Look at the columns {' and '.join(FLAGS)}, or choose other answers (without "
                "related prompts: data.related=null)."
            )
        return examples


def select_answers(
    records: list[Record], answers: Answers, source: str
) -> Iterator[tuple[int, int, Record]]:
    """Yields (row number from 1, answer number 0 or 1, record) of every answer of the wanted
    kind."""
    safe = [
        tuple(parse_flag(record[flag], f"{source}, row {row}, column {flag!r}") for flag in FLAGS)
        for row, record in enumerate(records, start=1)
    ]
    harmful_prompts = {
        normalise(str(record["prompt"]))
        for record, flags in zip(records, safe, strict=True)
        if not all(flags)
    }
    for row, (record, flags) in enumerate(zip(records, safe, strict=True), start=1):
        if answers == "related" and normalise(str(record["prompt"])) in harmful_prompts:
            continue
        for number, is_safe in enumerate(flags):
            if is_safe == (answers != "unsafe"):
                yield row, number, record
