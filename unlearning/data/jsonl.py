"""Forget and retain sets from files of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.source import check_source, iterate_records
from unlearning.types import Example


class JsonlDataModule(ExampleDataModule):
    """Reads prompt/response pairs from two columns of a JSON lines, csv or parquet file.

    Despite its name it takes every kind of source: a local jsonl, json, csv or parquet file, a
    folder of them, or a hub id.

    Args:
        source: see `unlearning.data.source.iterate_records`, as for the next three.
        records_split: which of the source's own splits to read; all of it is then split again by
            prompt. None takes all.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        source: str,
        prompt_column: str = "prompt",
        response_column: str = "response",
        records_split: str | None = "train",
        config_name: str | None = None,
        revision: str | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        self.source = source
        self.columns = (prompt_column, response_column)
        self.records_split = records_split
        self.config_name = config_name
        self.revision = revision

    def check(self) -> None:
        check_source(self.source, columns=self.columns, split=self.records_split)

    def read(self) -> Iterator[Example]:
        prompt, response = self.columns
        records = iterate_records(
            self.source,
            columns=self.columns,
            split=self.records_split,
            config_name=self.config_name,
            revision=self.revision,
        )
        for row, record in enumerate(records, start=1):
            yield from self.example(record[prompt], record[response], row=row, column=response)
