"""Splits a book into chapters, and assigns whole chapters to train, validation and test."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unlearning.data.overlap import normalise
from unlearning.data.split import SPLITS, Split
from unlearning.errors import ConfigError

_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_SMALL = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    "sixteen|seventeen|eighteen|nineteen|first|second|third|fourth|fifth|sixth|seventh|eighth|"
    "ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|"
    "eighteenth|nineteenth|twentieth|thirtieth|last"
)
CHAPTER_PATTERN = (
    # Chapter 1, CHAPTER IV, Chapter the First, BOOK TWO; then nothing, or a title behind a mark.
    r"^(?:Chapter|CHAPTER|Book|BOOK|Part|PART|Volume|VOLUME|Canto|CANTO|Stave|STAVE)\s+"
    rf"(?i:(?:the\s+)?(?:\d{{1,3}}|[ivxlc]+|(?:{_TENS})(?:[\s-](?:{_SMALL}))?|{_SMALL}))"
    r"(?:\s*[.:\u2013\u2014-](?:\s.{0,80})?)?$"
    # Chapter 1 A Title: without a mark only for chapters, and with a capital.
    r"|^(?:Chapter|CHAPTER)\s+(?:\d{1,3}|[IVXLC]+)\s+[^\W\d_a-z].{0,60}(?<![.,;])$"
    r"|^(?:Prologue|PROLOGUE|Epilogue|EPILOGUE)\.?$"
)
"""Headings that a book is parted by unless told otherwise. A lone numeral is none of them, since it
is a page or a section as often: `^[IVXLC]+$` takes such lines."""

LEAST_WORDS = 10
"""A chapter of fewer is none: a line of the table of contents, or the title of a part."""


@dataclass(frozen=True)
class Chapter:
    """One chapter of a book.

    Args:
        number: its place among the chapters of the book, from 1.
        heading: the line that it begins with; None for a block of paragraphs.
        text: its paragraphs, with a blank line between; without the heading.
    """

    number: int
    heading: str | None
    text: str

    @property
    def num_words(self) -> int:
        return len(self.text.split())


def split_chapters(
    paragraphs: Sequence[str], pattern: str | None, block: int
) -> tuple[list[Chapter], Counter[str]]:
    """Splits a text into chapters; what stands before the first heading is dropped as front matter.

    Args:
        pattern: of a heading; None makes chapters of `block` paragraphs each.

    Returns:
        The chapters, and the words and chapters that were dropped.

    Raises:
        ConfigError: fewer than two chapters are found by the pattern.
    """
    dropped: Counter[str] = Counter()
    if pattern is None:
        starts = enumerate(range(0, len(paragraphs), block), start=1)
        blocks = [Chapter(n, None, "\n\n".join(paragraphs[k : k + block])) for n, k in starts]
        return blocks, dropped
    parts: list[tuple[str, list[str]]] = []
    for paragraph in paragraphs:
        if "\n" not in paragraph and re.search(pattern, paragraph):
            parts.append((paragraph, []))
        elif parts:
            parts[-1][1].append(paragraph)
        else:
            dropped["words_before_first_chapter"] += len(paragraph.split())
    chapters: list[Chapter] = []
    for heading, texts in parts:
        text = "\n\n".join(texts)
        if len(text.split()) < LEAST_WORDS:
            dropped["short_chapters"] += 1
        else:
            chapters.append(Chapter(len(chapters) + 1, heading, text))
    if len(chapters) < 2:
        usual = pattern == CHAPTER_PATTERN
        shown = "looks for 'Chapter 1' and its like" if usual else f"is {pattern!r}"
        raise ConfigError(
            f"chapter_pattern found {len(parts)} headings, {len(chapters)} of them with text of at "
            f"least {LEAST_WORDS} words after it, and 2 are needed. It {shown}. Set it to a "
            "regular expression for the lines that head this book's chapters (for lone numerals: "
            "'^[IVXLC]+$'), or to null for blocks of chapter_paragraphs paragraphs."
        )
    return chapters, dropped


def choose_chapters(chapters: Sequence[Chapter], wanted: Sequence[int] | None) -> list[Chapter]:
    """Returns chapters `first` to `last`, both included; all of them by default.

    Raises:
        ConfigError: the book does not have them.
    """
    if wanted is None:
        return list(chapters)
    if len(wanted) != 2 or not 1 <= wanted[0] <= wanted[1] <= len(chapters):
        raise ConfigError(
            f"chapters={list(wanted)}: expected [first, last] within 1 to {len(chapters)}, which "
            "is how many the book has."
        )
    return list(chapters[wanted[0] - 1 : wanted[1]])


def assign_chapters(
    chapters: Sequence[Chapter], fractions: tuple[float, float, float], seed: int
) -> dict[Split, list[Chapter]]:
    """Assigns whole chapters to the splits by share of the words, ordered by a hash of (seed,
    text).

    A chapter goes where its middle falls. Each split with a share has at least one. Within a split
    the chapters stand in the order of the book.

    Raises:
        ConfigError: there are fewer chapters than splits with a share.
    """
    needed = sum(share > 0 for share in fractions)
    if len(chapters) < needed:
        raise ConfigError(
            f"{len(chapters)} chapters cannot fill {needed} splits (fractions={fractions}). "
            "Set chapter_pattern so that more are found, chapter_paragraphs lower, more of them in "
            "chapters, or a fraction to 0."
        )

    def rank(chapter: Chapter) -> str:
        return hashlib.sha256(f"{seed}\n{normalise(chapter.text)}".encode()).hexdigest()

    ordered = sorted(chapters, key=rank)
    total, before, middles = sum(c.num_words for c in ordered), 0, []
    for chapter in ordered:
        middles.append((before + chapter.num_words / 2) / total)
        before += chapter.num_words
    some = [int(share > 0) for share in fractions]
    first = max(1, sum(middle < fractions[0] for middle in middles))
    second = sum(middle < fractions[0] + fractions[1] for middle in middles)
    second = min(max(second, first + some[1]), len(ordered) - some[2])
    first = min(first, second - some[1])
    parts = (ordered[:first], ordered[first:second], ordered[second:])
    return {
        name: sorted(part, key=lambda chapter: chapter.number)
        for name, part in zip(SPLITS, parts, strict=True)
    }
