"""Splits text into words, in any script: the one tokenizer of the text metrics."""

from __future__ import annotations

import re
import unicodedata

_CANDIDATE = re.compile(r"[^\w\s]|_")  # what may be a symbol: a mark is none, and not in \w


def is_word_character(character: str) -> bool:
    """Whether a character is a letter, a digit, or a mark that belongs to one (vowel signs,
    combining accents)."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def split_words(text: str) -> list[str]:
    """Splits a text into lower-cased words of letters and digits; everything else separates them.

    On ASCII text these are the tokens of ROUGE. Scripts that write without spaces (Chinese,
    Japanese, Thai) give one word per clause.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    return _CANDIDATE.sub(lambda c: c[0] if is_word_character(c[0]) else " ", folded).split()


def count_symbols(text: str) -> int:
    """Counts the characters that are neither white space nor part of a word."""
    return sum(not is_word_character(c) for c in _CANDIDATE.findall(text))
