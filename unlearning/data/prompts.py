"""Data sets of prompts without answers, for prompt sets and for the model's own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Unpack, get_args

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.records.cells import checked_text
from unlearning.data.records.record_source import RecordSource
from unlearning.data.records.source import require_columns
from unlearning.errors import ConfigError
from unlearning.types import Example


class PromptsDataModule(ExampleDataModule):
    """Reads prompts from one column; the Examples have no answer.

    They can be asked, and trained on with the model's own answers (`data/answers=model`). Figures
    that compare with a data set's answer are left out.

    Args:
        source: see `unlearning.data.records.source.iterate_records`, as for `records_split`,
            `config_name` and `revision`.
        prompt_column: holds the prompts.
        where: which records to take; see `unlearning.data.records.where.RowFilter`.
        settings: see `ExampleDataModule`; without `fractions` all prompts are in one split.
    """

    has_answers = False

    def __init__(
        self,
        source: str,
        prompt_column: str = "prompt",
        records_split: str | None = "train",
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        settings.setdefault("fractions", (1.0, 0.0, 0.0))
        super().__init__(**settings)
        self.source, self.prompt_column = source, prompt_column
        self.records = RecordSource(source, records_split, config_name, revision, where)

    def check(self) -> None:
        present = self.records.check()
        if present is not None:
            require_columns(present, (self.prompt_column,), self.source)

    def read(self) -> Iterator[Example]:
        for row, record in self.records.selected():
            place = f"{self.source}, row {row}"
            require_columns(record, (self.prompt_column,), place)
            if self.takes(record):
                text = checked_text(record[self.prompt_column], place, "prompt")
                if not text:
                    raise ConfigError(f"{place}: the prompt is empty. Remove or complete the row.")
                yield Example(text, "")

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is wanted; a subclass may select."""
        return True


Prompts = Literal["safe", "unsafe"]


class XSTestDataModule(PromptsDataModule):
    """Reads XSTest (arXiv 2308.01263): safe prompts that sound unsafe.

    A model should not refuse more of them, nor answer worse, than before.

    Args:
        source: hub id, or a local file with the columns prompt and type.
        prompts: `safe`, or the `unsafe` ones that are their contrast, whose type begins with
            "contrast_".
        records_split: the hub has one, which holds all prompts.
        config_name: of the hub data set.
        revision: commit on the hub.
        where: which records to take, for example `{type: [homonyms]}`.
        settings: see `PromptsDataModule`.
    """

    def __init__(
        self,
        source: str = "walledai/XSTest",
        prompts: Prompts = "safe",
        records_split: str | None = None,
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        if prompts not in get_args(Prompts):
            raise ConfigError(
                f"prompts={prompts!r}: expected one of {', '.join(get_args(Prompts))}."
            )
        super().__init__(source, "prompt", records_split, config_name, revision, where, **settings)
        self.prompts = prompts

    def takes(self, record: Mapping[str, Any]) -> bool:
        require_columns(record, ("type",), self.source)
        return str(record["type"]).startswith("contrast") == (self.prompts == "unsafe")
