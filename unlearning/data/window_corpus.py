"""Cuts a corpus into numbered windows, each in one of three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from unlearning.data.corpus import Corpus
from unlearning.data.split import SPLITS, Split
from unlearning.data.windows import (
    Piece,
    Records,
    pieces,
    text_units,
    window_example,
    window_text,
    windows,
)
from unlearning.types import Example

RULES = 1  # raise it when the same text gives other windows
PART = 1 << 32


class WindowCorpus:
    """Cuts the parts of a corpus into windows and assigns these to the splits.

    Sections, runs of consecutive windows of one part, are assigned by a hash of (seed, part,
    section): neighbouring text is on one side, and no pass over the corpus is needed to know which.

    Args:
        records: what a line or a row is; None: one sentence on the hub, paragraphs in local text.
        words: about how many a window has.
        prompt_share: of the words that make the prompt.
        section: windows in a section.
        fractions: shares of train, validation and test.
        seed: of the assignment.
    """

    def __init__(
        self,
        corpus: Corpus,
        records: Records | None,
        words: int,
        prompt_share: float,
        section: int,
        fractions: tuple[float, float, float],
        seed: int,
    ) -> None:
        self.corpus, self.words, self.prompt_share, self.section = (
            corpus,
            words,
            prompt_share,
            section,
        )
        self.records: Records = records or ("sentences" if corpus.on_hub else "paragraphs")
        self.fractions, self.seed = fractions, seed
        self._names: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """Returns the names of the corpus's parts."""
        if self._names is None:
            self._names = self.corpus.names
        return self._names

    def examples(self, part: int, split: Split) -> Iterator[tuple[int, Example]]:
        """Yields (number, Example) of one part's windows in a split; numbers are unique in the
        corpus."""
        for number, window in self._windows(part, split):
            example = window_example(window, self.prompt_share)
            if example is not None:
                yield number, example

    def texts(self, split: Split) -> Iterator[str]:
        """Yields the windows of a split as they stand in the corpus."""
        for part in range(len(self.names)):
            yield from (window_text(window) for _, window in self._windows(part, split))

    def settings(self) -> list[Any]:
        """Returns everything that the windows and their splits depend on, the text included."""
        found = [
            RULES, self.corpus.content(), self.corpus.text_column, self.records, self.words,
            self.prompt_share, self.section, list(self.fractions), self.seed,
        ]  # fmt: skip
        return [*found, self.corpus.rows.wanted] if self.corpus.where else found

    def _windows(self, part: int, wanted: Split) -> Iterator[tuple[int, list[Piece]]]:
        lines: Iterable[str | None] = self.corpus.records(part)
        if self.records == "paragraphs" and not self.corpus.plain_lines:
            lines = _row_lines(self.corpus.records(part))
        units = text_units(lines, self.records)
        split: Split = "train"
        for index, window in enumerate(
            windows(pieces(units, self.records, self.words), self.words)
        ):
            if index % self.section == 0:
                split = self._split(part, index // self.section)
            if split == wanted:
                yield part * PART + index, window

    def _split(self, part: int, section: int) -> Split:
        key = hashlib.sha256(f"{self.seed}\n{self.names[part]}\n{section}".encode()).digest()
        place = int.from_bytes(key[:8]) / 2**64
        first, second, _ = self.fractions
        return SPLITS[0] if place < first else SPLITS[1] if place < first + second else SPLITS[2]


def _row_lines(rows: Iterable[str]) -> Iterator[str | None]:
    for row in rows:
        yield from row.split("\n")
        yield None
