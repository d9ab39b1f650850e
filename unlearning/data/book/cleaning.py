"""Removes front and back matter, page numbers and running heads from a book's pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from unlearning.errors import ConfigError
from unlearning.ranges import Count

Paragraphs = Literal["auto", "blank_lines", "lines", "line_width"]
Lines = list[str]

PAGE_NUMBERS = (
    r"\W{0,3}\d{1,4}\W{0,3}",  # 12, - 12 -, [12]
    r"(?i:page|p\.)\s*\d{1,4}(?:\s*(?i:of|/)\s*\d{1,4})?",
    # Lower case, two letters at least: a lone I, V or XII is a chapter's number as often.
    r"(?=[ivxl]{2})(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})",
)
UNSEEN = str.maketrans({
    "\u00ad": None, "\ufeff": None, "\u200b": None,  # soft hyphen, byte order mark, zero width
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl",
})  # fmt: skip


@dataclass(frozen=True)
class CleaningRules:
    """Rules for which lines belong to the text of a book, and how lines make paragraphs.

    Args:
        start: regular expression for the line before the text; None where it begins at once. The
            line is dropped with all that precedes it, but kept where the match is empty:
            `^(?=CHAPTER I$)` begins with that very line.
        end: likewise for the first line after the text.
        drop_lines: expressions that match a whole line to be dropped; by default page numbers. A
            chapter's heading is never dropped.
        repeated_lines: a first or last line that stands (digits aside) on so many pages is a
            running head or foot, and dropped; of one that is a chapter's heading, all but the
            first. None keeps them.
        paragraphs: what separates them. `blank_lines`; `lines` (each line is one); `line_width`
            (none are marked: one ends where a sentence ends in a line that is not full, as in many
            a .pdf); `auto` chooses by the lines' lengths.
        join_hyphens: join words that a line's end has split; the hyphen stays where the book writes
            the word with it elsewhere.

    Raises:
        ConfigError: no regular expression, or an unknown choice.
    """

    start: str | None = None
    end: str | None = None
    drop_lines: Sequence[str] = PAGE_NUMBERS
    repeated_lines: Count | None = 3
    paragraphs: Paragraphs = "auto"
    join_hyphens: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.drop_lines, str):
            raise ConfigError(
                f"cleaning.drop_lines={self.drop_lines!r}: expected a list of regular expressions."
            )
        for name, pattern in (("start", self.start), ("end", self.end)):
            check_pattern(f"cleaning.{name}", pattern)
        for pattern in self.drop_lines:
            check_pattern("cleaning.drop_lines", pattern)
        if self.repeated_lines is not None and self.repeated_lines < 2:
            raise ConfigError(
                f"cleaning.repeated_lines={self.repeated_lines}: expected at least 2 pages, or "
                "null to keep such lines."
            )
        if self.paragraphs not in get_args(Paragraphs):
            raise ConfigError(
                f"cleaning.paragraphs={self.paragraphs!r}: expected one of "
                f"{', '.join(get_args(Paragraphs))}."
            )

    @classmethod
    def of(cls, settings: CleaningRules | Mapping[str, Any] | None) -> CleaningRules:
        """Builds the rules from a mapping, as a configuration file has it.

        Raises:
            ConfigError: it has an unknown key.
        """
        if isinstance(settings, cls):
            return settings
        known = [field.name for field in fields(cls)]
        given: dict[str, Any] = dict(settings or {})  # type: ignore[arg-type]
        for name in given:
            if name not in known:
                raise ConfigError(f"cleaning.{name}: unknown; expected {', '.join(known)}.")
        return cls(**given)


def check_pattern(name: str, pattern: str | None) -> None:
    """Raises a ConfigError where a pattern is not a regular expression."""
    try:
        re.compile(pattern or "")
    except (re.error, TypeError) as error:
        raise ConfigError(f"{name}={pattern!r} is no regular expression: {error}.") from error


def clean_pages(
    pages: Sequence[str], rules: CleaningRules, is_heading: Callable[[str], bool], paged: bool
) -> tuple[list[Lines], Counter[str]]:
    """Returns the lines of the text itself, page by page (blank ones too), and how many were
    dropped.

    Args:
        paged: the pages are pages, whose first and last lines may be running heads and feet.

    Raises:
        ConfigError: `start` or `end` match no line.
    """
    dropped: Counter[str] = Counter()
    lines = [_lines(page) for page in pages]
    lines = _between(lines, rules, dropped)
    numbers = [re.compile(pattern) for pattern in rules.drop_lines]
    kept = []
    for page in lines:
        text = [
            line
            for line in page
            if is_heading(line) or not line or not any(n.fullmatch(line) for n in numbers)
        ]
        dropped["dropped_lines"] += len(page) - len(text)
        kept.append(text)
    if paged and rules.repeated_lines is not None:
        _drop_repeated(kept, rules.repeated_lines, is_heading, dropped)
    return kept, dropped


def _lines(page: str) -> Lines:
    # Not splitlines(), which also parts at U+2028, U+0085 and the like, within a sentence.
    text = page.translate(UNSEEN).replace("\r\n", "\n").replace("\r", "\n")
    return [" ".join(line.split()) for line in text.split("\n")]


def _between(pages: list[Lines], rules: CleaningRules, dropped: Counter[str]) -> list[Lines]:
    if rules.start is not None:
        page, line, kept = _find("start", rules.start, pages)
        dropped["front_lines"] = _filled(pages[:page]) + _filled([pages[page][: line + (not kept)]])
        pages = [pages[page][line + (not kept) :], *pages[page + 1 :]]
    if rules.end is not None:
        page, line, kept = _find("end", rules.end, pages)
        dropped["back_lines"] = _filled([pages[page][line + kept :]]) + _filled(pages[page + 1 :])
        pages = [*pages[:page], pages[page][: line + kept]]
    return pages


def _find(name: str, pattern: str, pages: list[Lines]) -> tuple[int, int, bool]:
    """Returns page and line of the first match, and whether the line itself is text."""
    for number, page in enumerate(pages):
        for place, line in enumerate(page):
            found = re.search(pattern, line)
            if found:
                return number, place, not found.group()
    after = " after the one that cleaning.start matches" if name == "end" else ""
    raise ConfigError(
        f"cleaning.{name}={pattern!r} matches no line of the book{after}. Lines are compared one "
        f"by one, without the blanks around them; set cleaning.{name}=null to keep all."
    )


def _filled(pages: list[Lines]) -> int:
    return sum(bool(line) for page in pages for line in page)


def _drop_repeated(
    pages: list[Lines], least: int, is_heading: Callable[[str], bool], dropped: Counter[str]
) -> None:
    """Removes recurring first and last lines, from outside in, until none is left."""
    headings: set[str] = set()
    protected: set[tuple[int, int]] = set()  # (page, place) of the headings that stay
    for _ in range(3):  # a head of two or three lines
        before = dropped["repeated_lines"]
        for place in (0, -1):
            for page in pages:
                while page and not page[place]:
                    page.pop(place)
            edges = Counter(re.sub(r"\d+", "#", page[place]) for page in pages if page)
            for number, page in enumerate(pages):
                if not page or edges[re.sub(r"\d+", "#", page[place])] < least:
                    continue
                if (number, place) in protected:
                    continue
                if is_heading(page[place]) and page[place] not in headings:
                    headings.add(page[place])
                    protected.add((number, place))
                    continue
                page.pop(place)
                dropped["repeated_lines"] += 1
        if dropped["repeated_lines"] == before:
            return
