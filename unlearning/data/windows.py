"""Cuts running text into windows of whole sentences, and windows into Examples.

Words are counted rather than tokens, so that the windows are the same for every model. A window is
`prompt + response`, cut between two sentences: an answer that is drawn as a mismatch is therefore
made of whole sentences (the authors' released code drew single characters).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Literal, NamedTuple

from unlearning.data.sentences import sentences
from unlearning.types import Example

Records = Literal["sentences", "lines", "paragraphs"]
"""What a line of a text file or a row of a table is: one sentence (BookCorpus), any text, or a line
of a paragraph that ends at a blank line (rows: at the row's end)."""

JOINED_BY: dict[Records, str] = {"sentences": " ", "lines": "\n", "paragraphs": "\n\n"}
LONGEST_PARAGRAPH = 20_000
"""Characters after which a paragraph is cut, so that a text without blank lines fits in memory."""

# A "word" of more than 100 characters (a link, text without spaces) counts as several.
_WORD = re.compile(r"\S{1,100}\s*")


class Piece(NamedTuple):
    """A sentence or a part of one.

    Attributes:
        gap: what stands between the piece before and this one.
        text: without white space around it.
        words: how many.
    """

    gap: str
    text: str
    words: int


def text_units(lines: Iterable[str | None], records: Records) -> Iterator[str]:
    """Groups lines into the texts that are split into sentences: each line, or each paragraph.

    Args:
        lines: of a file, or the lines of a table's rows; None ends a row.
    """
    if records != "paragraphs":
        yield from (line for line in lines if line)
        return
    paragraph: list[str] = []
    length = 0
    for line in lines:
        stripped = (line or "").strip()
        if stripped:
            paragraph.append(stripped)
            length += len(stripped)
        if paragraph and (not stripped or length > LONGEST_PARAGRAPH):
            yield " ".join(paragraph)
            paragraph, length = [], 0
    if paragraph:
        yield " ".join(paragraph)


def pieces(units: Iterable[str], records: Records, most: int) -> Iterator[Piece]:
    """Yields sentences with what stood between them; one of more than `most` words comes in
    parts."""
    split: Callable[[str], Iterable[str]] = sentences if records != "sentences" else _whole
    for unit in units:
        gap = JOINED_BY[records]
        for sentence in split(unit.strip()):
            words = _WORD.findall(sentence)
            for first in range(0, len(words), most):
                part = words[first : first + most]
                whole = "".join(part)
                text = whole.rstrip()
                yield Piece(gap, text, len(part))
                gap = whole[len(text) :]


def windows(stream: Iterable[Piece], words: int) -> Iterator[list[Piece]]:
    """Yields consecutive windows of about `words` words: from half of that to one and a half.

    The end of the text, where it is shorter than half a window, goes to the window before.

    Examples:
        >>> text = "One two three. Four five six. Seven eight nine. Ten."
        >>> for window in windows(pieces([text], "lines", most=6), words=6):
        ...     print(window_text(window))
        One two three. Four five six.
        Seven eight nine. Ten.
    """
    held: list[Piece] = []  # the window before, until it is known whether it grows
    window: list[Piece] = []
    count = 0
    for piece in stream:
        if count + piece.words > words and 2 * count >= words:
            if held:
                yield held
            held, window, count = window, [], 0
        window.append(piece)
        count += piece.words
    if held and 2 * count < words:
        yield held + window
        return
    yield from (last for last in (held, window) if last)


def window_text(window: list[Piece]) -> str:
    """Joins the pieces of a window to its text."""
    return window[0].text + "".join(piece.gap + piece.text for piece in window[1:])


def window_example(window: list[Piece], share: float) -> Example | None:
    """Cuts a window into prompt and response; None for a single word.

    The prompt is the first sentence or sentences, nearest to `share` of the words. Where the first
    sentence leaves less than half of the window, it is cut at a word's end.

    Args:
        share: of the words that make the prompt, above 0 and at most one half.
    """
    text = window_text(window)
    ends = list(accumulate(piece.words for piece in window))
    total = ends[-1]
    if total < 2:
        return None
    sentence_ends = [end for end in ends[:-1] if 2 * end <= total]
    if sentence_ends:
        wanted = min(sentence_ends, key=lambda end: abs(end - share * total))
        cut = len(window_text(window[: ends.index(wanted) + 1]))
    else:
        last = list(_WORD.finditer(text))[max(1, round(share * total)) - 1]
        cut = last.start() + len(last.group().rstrip())
    return Example(text[:cut], text[cut:])


def shorter_prompt(example: Example) -> Example:
    """Halves the prompt of a window, cut at a word's end if it has several words."""
    words = list(_WORD.finditer(example.prompt))
    cut = len(example.prompt) // 2
    if len(words) > 1:
        last = words[len(words) // 2 - 1]
        cut = last.start() + len(last.group().rstrip())
    return Example(example.prompt[:cut], example.prompt[cut:] + example.response)


def _whole(text: str) -> Iterable[str]:
    return (text,)
