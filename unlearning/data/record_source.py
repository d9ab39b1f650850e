"""A source of records, with what is taken of it: configuration, split, revision, and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unlearning.data.files import Record
from unlearning.data.source import check_source, iterate_records, selected_records
from unlearning.data.where import RowFilter


@dataclass(frozen=True)
class RecordSource:
    """A source and what is taken of it.

    Args:
        source: see `unlearning.data.source.iterate_records`, as for `split`, `config_name` and
            `revision`.
        where: which records to take; see `RowFilter`.

    Raises:
        ConfigError: a wanted value is none that `RowFilter` knows.
    """

    source: str
    split: str | None = "train"
    config_name: str | None = None
    revision: str | None = None
    where: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.row_filter()

    def row_filter(self) -> RowFilter:
        """Returns a new filter, which has seen no record."""
        return RowFilter(self.where, self.source)

    def check(self) -> list[str] | None:
        """Checks the source without loading it; see `check_source`.

        Returns:
            The columns of a local source; None for a hub id.
        """
        return check_source(self.source, columns=self.row_filter().columns, split=self.split)

    def everything(self) -> Iterator[Record]:
        """Yields all records, each with the columns of `where`."""
        return iterate_records(
            self.source,
            columns=self.row_filter().columns,
            split=self.split,
            config_name=self.config_name,
            revision=self.revision,
        )

    def selected(self) -> Iterator[tuple[int, Record]]:
        """Yields the records that `where` takes, with their row in the source, from 1."""
        return selected_records(
            self.source,
            self.where,
            columns=(),
            split=self.split,
            config_name=self.config_name,
            revision=self.revision,
        )
