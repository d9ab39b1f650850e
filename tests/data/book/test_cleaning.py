"""Front and back matter, page numbers, running heads."""

from __future__ import annotations

import re

import pytest

from unlearning.data.book.cleaning import PAGE_NUMBERS, CleaningRules, clean_pages
from unlearning.errors import ConfigError


def heading(line: str) -> bool:
    return re.search(r"^CHAPTER \d+$", line) is not None


def clean(pages, paged=True, **rules):
    return clean_pages(pages, CleaningRules(**rules), heading, paged)


@pytest.mark.parametrize(
    "line",
    [
        "12",
        "- 12 -",
        "[7]",
        "— 103 —",
        "Page 12",
        "page 3 of 240",
        "p. 9",
        "ii",
        "xiv",
        "xxxix",
        "xl",
    ],
)
def test_page_numbers_are_dropped(line):
    lines, dropped = clean([f"text\n  {line} \nmore"])
    assert lines == [["text", "more"]] and dropped["dropped_lines"] == 1


@pytest.mark.parametrize(
    "line", ["I", "XII", "i", "ill", "mix", "12 men", "1. He", "In 1418", "!", "12345"]
)
def test_text_is_not(line):
    assert clean([f"text\n{line}\nmore"])[0] == [["text", line, "more"]]


def test_rules_of_the_users_own():
    lines, dropped = clean(["* * *\n12\ntext"], drop_lines=[r"[* ]+"])
    assert lines == [["12", "text"]] and dropped["dropped_lines"] == 1
    assert clean(["12\ntext"], drop_lines=[])[0] == [["12", "text"]]


def test_a_heading_is_never_a_page_number():
    pages = ["1\ntext", "2\nmore"]
    lines, _ = clean_pages(pages, CleaningRules(), lambda line: line.isdigit(), True)
    assert lines == [["1", "text"], ["2", "more"]]


def test_text_stands_between_start_and_end():
    pages = ["title\n\nby A", "*** START of it ***\none\n\ntwo", "three\n*** END\nlicence", "more"]
    lines, dropped = clean(pages, start=r"^\*\*\* START", end=r"^\*\*\* END")
    assert lines == [["one", "", "two"], ["three"]]
    assert dropped["front_lines"] == 3 and dropped["back_lines"] == 3


def test_a_match_of_no_length_keeps_its_line():
    lines, dropped = clean(
        ["title\nCHAPTER 1\none\nFINIS\nx"], start="^(?=CHAPTER 1$)", end="(?=FINIS)"
    )
    assert lines == [["CHAPTER 1", "one", "FINIS"]]
    assert dropped["front_lines"] == dropped["back_lines"] == 1


@pytest.mark.parametrize("name", ["start", "end"])
def test_a_border_that_matches_nothing_is_an_error(name):
    with pytest.raises(ConfigError, match=rf"cleaning\.{name}='gone' matches no line.*{name}=null"):
        clean(["one"], **{name: "gone"})
    with pytest.raises(ConfigError, match=r"after the one that cleaning\.start"):
        clean(["END\nSTART\nx"], start="START", end="END")


def test_running_heads_and_feet_are_dropped_digits_aside():
    pages = [f"A BOOK {n}\nThe Author\n\nline {'abc'[n]}\nlast\n\nfoot {n}" for n in range(3)]
    lines, dropped = clean(pages)
    # `last` recurs at the edge, too, once the foot is gone; so does no other line.
    assert [[line for line in page if line] for page in lines] == [
        ["line a"],
        ["line b"],
        ["line c"],
    ]
    assert dropped["repeated_lines"] == 12


def test_two_pages_are_not_enough_and_sections_are_no_pages():
    pages = [f"HEAD\ntext {'abc'[n]}" for n in range(3)]
    assert clean(pages[:2])[0] == [["HEAD", "text a"], ["HEAD", "text b"]]
    assert clean(pages[:2], repeated_lines=2)[0] == [["text a"], ["text b"]]
    assert clean(pages, paged=False)[0][2] == clean(pages, repeated_lines=None)[0][2] == [
        "HEAD", "text c",
    ]  # fmt: skip


def test_of_a_running_chapter_heading_the_first_stays():
    of_page = [1, 1, 2, 2, 2, 3]
    lines, dropped = clean([f"CHAPTER {n}\ntext {'abcdef'[k]}" for k, n in enumerate(of_page)])
    assert lines == [
        ["CHAPTER 1", "text a"], ["text b"], ["CHAPTER 2", "text c"], ["text d"], ["text e"],
        ["CHAPTER 3", "text f"],
    ]  # fmt: skip
    assert dropped["repeated_lines"] == 3


def test_line_ends_blanks_and_unseen_marks():
    lines, _ = clean(["\ufeffone\u00a0 two\r\nthr\u00adee\rfour \ufb01ve\u2028six"])
    assert lines == [["one two", "three", "four five six"]]


def test_bad_rules():
    with pytest.raises(ConfigError, match=r"cleaning.start='\(' is no regular expression"):
        CleaningRules(start="(")
    with pytest.raises(ConfigError, match=r"cleaning.drop_lines='\['"):
        CleaningRules(drop_lines=["["])
    with pytest.raises(ConfigError, match="expected a list"):
        CleaningRules(drop_lines="12")
    with pytest.raises(ConfigError, match="repeated_lines=1"):
        CleaningRules(repeated_lines=1)
    with pytest.raises(ConfigError, match=r"paragraphs='words'.*auto, blank_lines, lines"):
        CleaningRules(paragraphs="words")
    with pytest.raises(ConfigError, match=r"cleaning\.begin: unknown; expected start, end"):
        CleaningRules.of({"begin": "x"})
    assert (
        CleaningRules.of(None) == CleaningRules() == CleaningRules.of({"drop_lines": PAGE_NUMBERS})
    )
