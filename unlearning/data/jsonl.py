"""Forget and retain sets from files of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack

from unlearning.data.dialogue import Turn, parse_dialogue
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.records.cells import list_of_texts, shortened
from unlearning.data.records.record_source import RecordSource
from unlearning.data.records.source import require_columns
from unlearning.errors import ConfigError
from unlearning.types import Example

DIALOGUES = ("messages", "conversations", "chosen", "rejected")
"""Columns that usually hold dialogues."""


class JsonlDataModule(ExampleDataModule):
    """Reads prompts and answers from two columns of a JSON lines, csv or parquet file, or from one
    column of dialogues.

    Despite its name it takes every kind of source: a local jsonl, json, csv or parquet file, a
    folder of them, or a hub id.

    Args:
        source: see `unlearning.data.records.source.iterate_records`, as for `records_split`,
            `config_name` and `revision`.
        dialogue_column: holds whole dialogues, or answers to the prompts of `prompt_column`, in
            place of `response_column`: `messages` (UltraChat), `conversations` (ShareGPT), `chosen`
            or `rejected` (HH-RLHF and other preferences); see `parse_dialogue`. The last assistant
            turn is the answer, the user turn before it the prompt.
        alternatives: column by kind of alternative, for example `{choices: options, perturbed:
            wrong_answers}`; a column holds a text, a list of texts, or a mapping of names to texts.
        label_column: number of the right choice (or its letter, A the first). The response column
            may be absent then: the right choice is the response.
        records_split: which of the source's own splits to read; all of it is then split again by
            prompt. None takes all.
        where: which records to take, by column, for example `{is_safe: false}`; see
            `unlearning.data.records.where.RowFilter`.
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
        dialogue_column: str | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        self.source, self.dialogue_column = source, dialogue_column
        self.prompt_column, self.response_column = prompt_column, response_column
        self.alternatives, self.label_column = dict(alternatives or {}), label_column
        texts = (prompt_column, response_column) if dialogue_column is None else (dialogue_column,)
        named = (*texts, label_column, *self.alternatives.values())
        self.columns = tuple(column for column in named if column is not None)
        if prompt_column in texts[1:] or prompt_column == dialogue_column:
            raise ConfigError(
                f"JsonlDataModule: prompt and answer are both read from the column "
                f"{prompt_column!r}. Name a column for each: prompt_column, and response_column or "
                "dialogue_column."
            )
        choices_answer = response_column is None and dialogue_column is None
        if choices_answer and not (label_column and "choices" in self.alternatives):
            raise ConfigError(
                "JsonlDataModule: without response_column it needs label_column and a column of "
                "choices, of which the right one is the response. Prompts alone are read by "
                "unlearning.data.PromptsDataModule."
            )
        self.records = RecordSource(source, records_split, config_name, revision, where)

    def check(self) -> None:
        present = self.records.check()
        if present is not None:
            self._require(present, self.source)

    def read(self) -> Iterator[Example]:
        for row, record in self.records.selected():
            where = f"{self.source}, row {row}"
            self._require(record, where)
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
            turns, prompt, answer, column = self._parse(record, right, where)
            for example in self.example(prompt, answer, row=row, column=column):
                yield Example(example.prompt, example.response, texts or (), label, turns)

    def _parse(
        self, record: Mapping[str, Any], right: str | None, where: str
    ) -> tuple[tuple[Turn, ...], Any, Any, str]:
        """Returns the turns before, the prompt, the answer, and the column that it stands in."""
        column = self.dialogue_column
        if column is not None:
            place = f"{where}, column {column!r}"
            found = parse_dialogue(record[column], record.get(self.prompt_column), place)
            return found.turns, found.prompt, found.answer, column
        column = self.response_column
        answer = right if column is None else record[column]
        return (), record[self.prompt_column], answer, column or "choices"

    def _require(self, present: Iterable[str], where: str) -> None:
        """Raises a ConfigError for a missing column; names the way where there are dialogues."""
        names = list(present)
        try:
            require_columns(names, self.columns, where)
        except ConfigError as error:
            dialogues = [] if self.dialogue_column else [n for n in names if n in DIALOGUES]
            if not dialogues:
                raise
            raise ConfigError(
                f"{error} For dialogues set dialogue_column, for example "
                f"data.forget.dialogue_column={dialogues[-1]}."
            ) from None


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
