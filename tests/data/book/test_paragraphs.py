"""Lines to paragraphs."""

from __future__ import annotations

import textwrap
import time

import pytest

from unlearning.data.book.paragraphs import choose_way, join_paragraphs, line_width

SENTENCES = [
    f"The {who} went down to the {where} in the morning and came back with {what} before noon."
    for who in ("miller", "baker", "weaver")
    for where in ("river", "meadow", "old stone bridge")
    for what in ("reeds", "a basket of plums")
]
PROSE = [" ".join(SENTENCES[k : k + 3]) for k in range(0, len(SENTENCES), 3)]


def no_heading(line: str) -> bool:
    return False


def join(*pages: str, **settings) -> list[str]:
    lines = [page.split("\n") for page in pages]
    return join_paragraphs(lines, settings.pop("is_heading", no_heading), **settings)[0]


def wrapped(paragraph: str, width: int = 60) -> str:
    return textwrap.fill(paragraph, width, break_on_hyphens=False)


def test_the_way_is_chosen_by_the_looks():
    way = {
        "blank_lines": "\n\n".join(wrapped(p) for p in PROSE),
        "line_width": "\n".join(wrapped(p) for p in PROSE),
        "lines": "\n".join(PROSE),
    }
    for name, text in way.items():
        assert choose_way([text.split("\n")]) == name
        assert join(text) == PROSE, name
    # Long lines with blank lines between chapters only: each line is still a paragraph.
    assert join("\n".join(PROSE[:3]) + "\n\n\n" + "\n".join(PROSE[3:])) == PROSE
    assert join("\n\n".join(PROSE)) == PROSE
    # Short lines that fill nothing: a line is a paragraph.
    assert choose_way([["one", "two three four five", "six"]]) == "lines"


def test_a_way_can_be_forced():
    assert join("one\ntwo\n\nthree", way="lines") == ["one", "two", "three"]
    assert join("one\ntwo\n\nthree", way="blank_lines") == ["one two", "three"]


def test_verse_keeps_its_lines():
    verse = "Over the hill and down\nthe lane we go,\nsinging of rain."
    text = "\n\n".join([wrapped(PROSE[0]), verse, *(wrapped(p) for p in PROSE[1:])])
    assert join(text) == [PROSE[0], verse, *PROSE[1:]]


def test_a_heading_is_a_paragraph_of_its_own():
    text = "one\nHEAD\ntwo\nthree\n\nfour"
    assert join(text, is_heading=str.isupper, way="blank_lines") == [
        "one", "HEAD", "two three", "four",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "first", "goes_on"),
    [
        ("and then the king of", "the hills", True),  # lower case
        ("and then he", "Said it", False),  # a short line and a capital: not plain
        ("x" * 60, "Gondor fell", True),  # the line was full
        ("x" * 59 + ".", "gondor fell", False),  # a sentence's end
        ("x" * 58 + "!”", "and so on", False),
    ],
)
@pytest.mark.parametrize("way", ["blank_lines", "lines", "line_width"])
def test_paragraphs_that_run_over_a_page(last, first, goes_on, way):
    full = "y" * 60  # the width of a line
    pages = [f"{full}.\n\n{last}", f"{first}\n\n{full}."]
    lines = [page.split("\n") for page in pages]
    texts, joined = join_paragraphs(lines, no_heading, way)
    middle = [f"{last} {first}"] if goes_on else [last, first]
    assert texts == [f"{full}.", *middle, f"{full}."] or way == "line_width"
    assert (middle[0] in " ".join(texts)) and joined["pages_joined"] == goes_on


def test_nothing_runs_into_a_heading_or_out_of_one():
    assert join("HEAD", "and so", is_heading=str.isupper) == ["HEAD", "and so"]
    assert join("and so", "HEAD", is_heading=str.isupper) == ["and so", "HEAD"]


def test_nothing_runs_over_the_end_of_a_section():
    assert join("this goes", "on here") == ["this goes on here"]
    assert join("this goes", "on here", paged=False) == ["this goes", "on here"]


def test_words_cut_at_a_line_end():
    text = "a well-known thing is won-\nderful and well-\nknown, not half-\nbaked, 18-\n19, A-\nB"
    lines = [["wonderful", "", *text.split("\n")]]
    texts, joined = join_paragraphs(lines, no_heading, "blank_lines")
    # Both forms unknown: cut by the line. Numbers and capitals are left as they are.
    assert texts[1] == "a well-known thing is wonderful and well-known, not halfbaked, 18- 19, A- B"
    assert joined["words_joined"] == 3
    kept = join_paragraphs(lines, no_heading, "blank_lines", join_hyphens=False)[0]
    assert kept[1] == " ".join(text.split("\n"))


def test_width_is_what_nine_of_ten_lines_do_not_pass():
    assert line_width([["x" * n for n in range(1, 11)]]) == 9
    assert line_width([[""]]) == 0
    assert line_width([["abc"], ["", "ab"]]) == 3


def test_nothing_is_nothing():
    assert join("") == [] and join("", "\n") == []


def test_a_book_that_is_one_paragraph_is_joined_in_no_time():
    lines = ["it went on and on without an end and was cut at the end of every single li-"] * 5000
    lines.append("ne")
    start = time.process_time()
    (text,), joined = join_paragraphs([lines], no_heading, "blank_lines")
    assert time.process_time() - start < 5  # a pass over all that is joined, a line: minutes
    assert joined["words_joined"] == 5000 and text.endswith("every single line")
