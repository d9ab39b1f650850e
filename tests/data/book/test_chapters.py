"""Headings, and dealing whole chapters to the splits."""

from __future__ import annotations

import re

import pytest

from unlearning.data.book.chapters import (
    CHAPTER_PATTERN,
    Chapter,
    assign_chapters,
    choose_chapters,
    split_chapters,
)
from unlearning.errors import ConfigError

TEXT = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 1", "CHAPTER IV", "Chapter IV.", "CHAPTER II. The Way", "Chapter the First",
        "Chapter Twenty-one", "BOOK TWO", "Book the Third", "PART ONE", "Part I: The Road",
        "CHAPTER 12 — A Long Way", "Chapter 3 A Short Way", "VOLUME II", "Prologue", "EPILOGUE",
        "Chapter 1. A Long Way . . . . . 21",
    ],
)  # fmt: skip
def test_headings_by_default(line):
    assert re.search(CHAPTER_PATTERN, line)


@pytest.mark.parametrize(
    "line",
    [
        "IV", "I", "12", "chapter two of his life began", "Chapter of woe", "Book two was lying",
        "Part of the way", "Part I was played by him", "The Prologue", "In Chapter 4", "Booking",
        "Chapter 3 of the book was torn", "Chapter 3 Of the book he had this,", "",
    ],
)  # fmt: skip
def test_no_headings_by_default(line):
    assert not re.search(CHAPTER_PATTERN, line)


def test_chapters_without_their_headings():
    paragraphs = ["title page", "Chapter 1", TEXT, "x", "Chapter 2", TEXT]
    chapters, dropped = split_chapters(paragraphs, CHAPTER_PATTERN, block=1)
    assert chapters == [
        Chapter(1, "Chapter 1", f"{TEXT}\n\nx"),
        Chapter(2, "Chapter 2", TEXT),
    ]
    assert dropped == {"words_before_first_chapter": 2}


def test_contents_and_titles_of_parts_are_no_chapters():
    contents = ["Chapter 1", "A Way", "Chapter 2", "PART ONE", "The Road"]
    paragraphs = [*contents, "Chapter 1", TEXT, "PART TWO", "Chapter 2", TEXT]
    chapters, dropped = split_chapters(paragraphs, CHAPTER_PATTERN, block=1)
    assert [(c.number, c.heading) for c in chapters] == [(1, "Chapter 1"), (2, "Chapter 2")]
    assert dropped == {"short_chapters": 4}


def test_blocks_of_paragraphs():
    chapters, dropped = split_chapters(["a", "Chapter 1", "b", "c", "d"], None, block=2)
    assert [c.text for c in chapters] == ["a\n\nChapter 1", "b\n\nc", "d"]
    assert [c.number for c in chapters] == [1, 2, 3] and not dropped


def test_too_few_chapters_says_how_many_and_what_to_set():
    expected = r"found 2 headings, 1 of them with text of at least 10 words.*chapter_paragraphs"
    with pytest.raises(ConfigError, match=expected):
        split_chapters(["Chapter 1", "Chapter 2", TEXT], CHAPTER_PATTERN, block=1)
    with pytest.raises(ConfigError, match="It looks for 'Chapter 1' and its like"):
        split_chapters([TEXT], CHAPTER_PATTERN, block=1)
    with pytest.raises(ConfigError, match=r"found 0 headings.*It is '#'\. Set it"):
        split_chapters([TEXT], "#", block=1)


def make(*sizes: int) -> list[Chapter]:
    return [Chapter(n, None, " ".join([f"w{n}"] * size)) for n, size in enumerate(sizes, start=1)]


def test_a_part_of_the_book():
    chapters = make(1, 1, 1, 1)
    assert choose_chapters(chapters, None) == chapters
    assert [c.number for c in choose_chapters(chapters, [2, 3])] == [2, 3]
    for wanted in ([0, 2], [3, 2], [1, 5], [1]):
        with pytest.raises(ConfigError, match="within 1 to 4"):
            choose_chapters(chapters, wanted)


def test_shares_hold_in_text_and_every_chapter_is_dealt_once():
    chapters = make(*(20 + 7 * n % 31 for n in range(60)))
    total = sum(c.num_words for c in chapters)
    for seed in range(5):
        parts = assign_chapters(chapters, (0.7, 0.1, 0.2), seed)
        dealt = sorted(c.number for part in parts.values() for c in part)
        assert dealt == list(range(1, 61))
        for part, share in zip(parts.values(), (0.7, 0.1, 0.2), strict=True):
            # The borders are at most half a chapter off, each.
            assert abs(sum(c.num_words for c in part) / total - share) < 51 / total
            assert [c.number for c in part] == sorted(c.number for c in part)


def test_the_seed_and_the_texts_alone_decide():
    chapters = make(*[10] * 12)
    numbers = [
        [c.number for c in assign_chapters(chapters, (0.5, 0, 0.5), seed)["test"]]
        for seed in range(4)
    ]
    assert len({tuple(n) for n in numbers}) > 1
    assert assign_chapters(chapters[::-1], (0.5, 0, 0.5), 0) == assign_chapters(
        chapters, (0.5, 0, 0.5), 0
    )


@pytest.mark.parametrize("sizes", [(1000, 1, 1), (1, 1000, 1), (1, 1, 1000), (5, 5, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_every_share_gets_a_chapter_and_no_share_none(sizes, seed):
    for fractions in ((0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (0.4, 0.3, 0.3)):
        parts = assign_chapters(make(*sizes), fractions, seed)
        assert [len(part) for part in parts.values()] == [1, 1, 1]
    for fractions in ((0.99, 0, 0.01), (0.01, 0, 0.99)):
        parts = assign_chapters(make(*sizes), fractions, seed)
        assert parts["train"] and parts["test"] and not parts["validation"]
    parts = assign_chapters(make(*sizes), (0.01, 0.99, 0), seed)
    assert parts["train"] and parts["validation"] and not parts["test"]
    assert len(assign_chapters(make(*sizes), (1, 0, 0), seed)["train"]) == 3


def test_fewer_chapters_than_splits():
    with pytest.raises(ConfigError, match="2 chapters cannot fill 3 splits"):
        assign_chapters(make(5, 5), (0.7, 0.1, 0.2), 0)
    assert [len(p) for p in assign_chapters(make(5, 5), (0.7, 0, 0.3), 0).values()] == [1, 0, 1]
