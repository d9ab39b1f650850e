"""Forget and retain sets from files of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from unlearning.data.cells import list_of_texts, shortened
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.source import check_source, selected_records
from unlearning.data.where import RowFilter
from unlearning.errors import ConfigError
from unlearning.types import Example


class JsonlDataModule(ExampleDataModule):
    """Reads prompt/response pairs from two columns of a JSON lines, csv or parquet file.

    Despite its name it takes every kind of source: a local jsonl, json, csv or parquet file, a
    folder of them, or a hub id.

    Args:
        source: see `unlearning.data.source.iterate_records`, as for the next three.
        alternatives: column by kind of alternative, for example `{choices: options, perturbed:
            wrong_answers}`; a column holds a text, a list of texts, or a mapping of names to texts.
        label_column: number of the right choice (or its letter, A the first). The response column
            may be absent then: the right choice is the response.
        records_split: which of the source's own splits to read; all of it is then split again by
            prompt. None takes all.
        where: which records to take, by column, for example `{is_safe: false}`; see
            `unlearning.data.where.RowFilter`.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        source: str,
        prompt_column: str = "prompt",
        response_column: str | None = "response",
        alternatives: Mapping[str, str] | None = None,
        label_column: str | None = None,
        records_split: str | None = "train",
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        self.source = source
        self.prompt_column, self.response_column = prompt_column, response_column
        self.alternatives, self.label_column = dict(alternatives or {}), label_column
        named = (prompt_column, response_column, label_column, *self.alternatives.values())
        self.columns = tuple(column for column in named if column is not None)
        if response_column is None and not (label_column and "choices" in self.alternatives):
            raise ConfigError(
                "JsonlDataModule: without response_column it needs label_column and a column of "
                "choices, of which the right one is the response."
            )
        self.records_split = records_split
        self.config_name = config_name
        self.revision = revision
        self.where = where
        RowFilter(where, source)  # refuses what it does not understand

    def check(self) -> None:
        columns = (*self.columns, *RowFilter(self.where, self.source).columns)
        check_source(self.source, columns=columns, split=self.records_split)

    def read(self) -> Iterator[Example]:
        records = selected_records(
            self.source,
            self.where,
            columns=self.columns,
            split=self.records_split,
            config_name=self.config_name,
            revision=self.revision,
        )
        for row, record in records:
            where = f"{self.source}, row {row}"
            texts = {
                name: list_of_texts(record[column], f"{where}, column {column!r}")
                for name, column in self.alternatives.items()
            }
            label = right = None
            if self.label_column is not None:
                choices = record.get(self.alternatives.get("choices", ""))
                label = number_of(record[self.label_column], where, choices)
                if "choices" in texts:
                    right = right_choice(texts["choices"], label, where)
            column = self.response_column
            response: Any = right if column is None else record[column]
            column = self.response_column or "choices"
            made = self.example(record[self.prompt_column], response, row=row, column=column)
            for example in made:
                if texts or label is not None:
                    example = Example(example.prompt, example.response, texts, label)
                yield example


def number_of(value: Any, where: str, choices: Any = None) -> int:
    """A label as a number from 0; letters count from A.

    Where the choices' cell is a mapping that names them itself, as ARC's `{"text": [...], "label":
    ["1", "2", "3", "4"]}`, the label is looked up there.

    Raises:
        ConfigError: it is neither a number nor a letter.
    """
    text = str(value).strip() if not isinstance(value, int) else shortened(value)
    names = choices.get("label") if isinstance(choices, Mapping) else None
    if isinstance(names, list) and text in (texts := [str(name).strip() for name in names]):
        return texts.index(text)
    whole = text.removesuffix(".0")  # as pandas writes numbers beside missing ones
    if whole.isdecimal() and len(whole) < 10:
        return int(whole)
    if len(text) == 1 and text.isascii() and text.isalpha():
        return ord(text.upper()) - ord("A")
    raise ConfigError(f"{where}: label {shortened(value)} is neither a number from 0 nor a letter.")


def right_choice(choices: tuple[str, ...], label: int | None, where: str) -> str:
    """The choice that the label names.

    Raises:
        ConfigError: there is none.
    """
    if label is None or not 0 <= label < len(choices):
        raise ConfigError(f"{where}: label {label} names none of {len(choices)} choices, from 0.")
    return choices[label]
