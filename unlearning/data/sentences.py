"""Splits plain text into sentences by a few rules; no model, no language package.

The pieces of a text joined give the text again, so nothing downstream can lose a character. The
rules are meant for prose in Latin script; where they are unsure they do not cut, since two
sentences in one piece do less harm here than half a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What may end a sentence: a stop, closing marks after it, white space; or a blank line.
_BORDER = re.compile(r"""(?<![.!?…])[.!?…]+["'\u201d\u2019»)\]*_]*\s+|\n[^\S\n]*\n\s*""")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
# What a next sentence does not begin with. Text in lower case throughout is not cut by rule.
_GOES_ON = re.compile(r"[a-zß-öø-ÿ,;:.!?…)\]]")
# "I." may end a sentence: the pronoun.
_INITIAL = re.compile(r"(?:^|[\s(\[\"'\u201c\u2018.])[A-HJ-Z]\.\s+$")
_LAST_WORD = re.compile(r"([\w.]+)\.\s+$")
_ABBREVIATIONS = frozenset(
    "mr mrs ms mme mlle dr prof st sr jr rev hon esq messrs gen col capt lieut lt sgt maj cpl gov "  # noqa: SIM905
    "vol pp viz vs cf e.g i.e approx".split()
)


def sentences(text: str) -> Iterator[str]:
    """Splits a text into sentences, each with the white space after it; joined they are the
    text.

    Examples:
        >>> list(sentences("It rained. Mr. Smith stayed in!"))
        ['It rained. ', 'Mr. Smith stayed in!']
    """
    start = 0
    for border in _BORDER.finditer(text):
        end = border.end()
        if end < len(text) and not _ends(text, start, border):
            continue
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _ends(text: str, start: int, border: re.Match[str]) -> bool:
    """Whether a possible sentence border is one."""
    if _BLANK_LINE.search(border.group()):
        return True
    if _GOES_ON.match(text, border.end()):
        return False
    # No more than the last words are looked at, or a text of N borders would take N^2 steps.
    before = text[max(start, border.start() - 20) : border.end()]
    if _INITIAL.search(before):
        return False
    word = _LAST_WORD.search(before)
    return word is None or word.group(1).casefold() not in _ABBREVIATIONS
