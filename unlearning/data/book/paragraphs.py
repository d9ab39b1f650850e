"""Joins the lines of a book to paragraphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from unlearning.data.book.cleaning import Lines, Paragraphs

LONG_LINE = 120
"""No text is wrapped at so many characters; a longer line is a whole paragraph."""
LINES_PER_BLANK = 40
"""Where blank lines are rarer than this, they part something else than paragraphs."""
SENTENCE_END = re.compile(r"[.!?…:;][\"'\u201d\u2019»)\]]*$")
CUT_WORD = re.compile(r"([^\W\d_]+)-$")


def join_paragraphs(
    pages: Sequence[Lines],
    is_heading: Callable[[str], bool],
    way: Paragraphs = "auto",
    join_hyphens: bool = True,
    paged: bool = True,
) -> tuple[list[str], Counter[str]]:
    """Joins lines to paragraphs, and counts the pages and the hyphenated words that were joined.

    A heading is always a paragraph. Where a paragraph continues on the next page (its sentence does
    not end, and the next page begins in lower case or the line was full), the two parts are joined.

    Args:
        pages: lines without blanks around them; an empty one is a blank line.
        paged: the pages are pages; nothing runs over the ends of sections.
    """
    joined: Counter[str] = Counter()
    width = line_width(pages)
    way = choose_way(pages) if way == "auto" else way
    whole = _words(pages) if join_hyphens else None
    blocks: list[Lines] = []
    for page in pages:
        of_page = [b for part in _by_heading(page, is_heading) for b in _blocks(part, way, width)]
        edges = (blocks[-1][-1], of_page[0][0]) if paged and blocks and of_page else ()
        if edges and not any(map(is_heading, edges)):
            last, first = edges
            if not SENTENCE_END.search(last) and (first[0].islower() or len(last) >= 0.8 * width):
                goes_on = of_page.pop(0)
                blocks[-1][-1:] = [_join([last, first], " ", whole, joined), *goes_on[1:]]
                joined["pages_joined"] += 1
        blocks += of_page
    texts = []
    for block in blocks:
        # Short lines that are not the wrapped lines of prose are verse, or an address.
        verse = way == "blank_lines" and _median(block[:-1]) < 0.6 * width
        texts.append(_join(block, "\n" if verse else " ", None if verse else whole, joined))
    return texts, joined


def line_width(pages: Sequence[Lines]) -> int:
    """Returns the length of a full line in characters: the 0.9 quantile of all lines."""
    lengths = sorted(len(line) for page in pages for line in page if line)
    return lengths[(len(lengths) * 9 - 1) // 10] if lengths else 0


def choose_way(pages: Sequence[Lines]) -> Paragraphs:
    """Guesses what separates the paragraphs of a text: blank lines, single lines or line width."""
    filled = [line for page in pages for line in page if line]
    # A line within a block: one that has a neighbour above or below.
    within = [
        line
        for page in pages
        for blank, run in groupby(page, key=lambda line: not line)
        if not blank
        for lines in [list(run)]
        if len(lines) > 1
        for line in lines
    ]
    if within and sum(len(line) > LONG_LINE for line in within) > 0.1 * len(within):
        return "lines"
    breaks = sum(
        blank for page in pages for blank, _ in groupby(_trimmed(page), key=lambda line: not line)
    )
    if breaks and breaks * LINES_PER_BLANK >= len(filled) - len(pages):
        return "blank_lines"
    if not breaks and not within:  # a line a page
        return "lines"
    width = line_width(pages)
    full = sum(0.8 * width <= len(line) <= LONG_LINE for line in filled)
    return "line_width" if width >= 40 and full >= 0.5 * len(filled) else "lines"


def _trimmed(page: Lines) -> Lines:
    return "\n".join(page).strip("\n").split("\n")


def _by_heading(page: Lines, is_heading: Callable[[str], bool]) -> list[Lines]:
    """Splits a page at its headings, each of which is a part of its own."""
    parts: list[Lines] = [[]]
    for line in page:
        if line and is_heading(line):
            parts += [[line], []]
        else:
            parts[-1].append(line)
    return parts


def _blocks(lines: Lines, way: Paragraphs, width: int) -> list[Lines]:
    if way == "lines":
        return [[line] for line in lines if line]
    blocks: list[Lines] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        short = way == "line_width" and len(line) < 0.8 * width
        if not line or (short and SENTENCE_END.search(line)):
            blocks.append([])
    return [block for block in blocks if block]


def _median(lines: Lines) -> float:
    return sorted(map(len, lines))[len(lines) // 2] if lines else float("inf")


def _words(pages: Sequence[Lines]) -> Counter[str]:
    """Counts the words within lines, hyphenated ones as one word."""
    found: Counter[str] = Counter()
    for page in pages:
        for line in page:
            found.update(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", line.casefold()))
    return found


def _join(lines: Lines, separator: str, whole: Counter[str] | None, joined: Counter[str]) -> str:
    text = [lines[0]]
    for before, line in pairwise(lines):
        # Looked for in the last line, not in all that is joined: a book may be one paragraph.
        cut = CUT_WORD.search(before) if whole is not None else None
        rest = re.match(r"[^\W\d_]+", line)
        if whole is None or cut is None or rest is None or not rest.group()[0].islower():
            text += [separator, line]
            continue
        one, two = cut.group(1).casefold(), rest.group().casefold()
        if whole[f"{one}-{two}"] <= whole[one + two]:
            text[-1] = text[-1][:-1]
        text.append(line)
        joined["words_joined"] += 1
    return "".join(text)
