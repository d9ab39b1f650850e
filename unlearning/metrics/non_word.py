"""Detects texts that are not made of words, without a dictionary.

A token is white-space separated, stripped of the punctuation around it and split at the joints
inside it (hyphen, apostrophe, slash, full stop, arithmetic). A part is no word where it

- holds a replacement, control, private or unassigned character (torn byte pieces);
- has a letter four times in a row ("sooooo", "aaaaa");
- switches between letters and digits three times or more ("a1b2c3"; "H2O" and "MP3" pass);
- switches from lower to upper case three times or more ("dOnTdO"; "LaTeX" and "YouTube" pass);
- has more than 40 letters of an alphabet with upper and lower case (glued words);
- is Latin, without a vowel (accents ignored, y is one) and longer than 3 letters, or 5 in capitals
  ("Mr", "vs", "HTML" pass), or with 7 consonants in a row ("sdkfjhab").

A token with two other symbols inside ("x@q#z") or made of four symbols or more ("%$#@!") is none
either. Numbers, prices, links, mail addresses and lone signs ("+", "-", "...") are not counted
against a text.

Limits: pronounceable nonsense ("blorf") passes, and so does any string in a script that has
neither case nor Latin letters; words with a syllabic r or l (Czech "čtvrt") and very long
compounds count as non-words, which a text of ordinary words outvotes.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from unlearning.metrics.words import count_symbols, is_word_character

MIN_NON_WORD_SHARE = 0.3
"""Of the tokens; real English answers stay below 0.05."""
MIN_SYMBOLS = 8
MAX_LETTERS = 40
MAX_VOWELLESS = 3
MAX_VOWELLESS_CAPITALS = 5
MIN_SYMBOL_RUN = 4

_JOINTS = re.compile(r"[-'`/\\.,:;&_+*=^<>()\[\]|~?!\"\u00b7\u00d7\u00f7\u2010-\u201f\u2026]+")
_LINK = re.compile(r"://|^www\.|.@.+\..")
_SAME_LETTER = re.compile(r"([^\W\d_])\1{3}")
_LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_VOWELS = "aeiouyæøœəɛɔ\u0131"
_CONSONANTS = re.compile(rf"[^{_VOWELS}]{{7}}")
_TORN = frozenset({"Cc", "Cn", "Co", "Cs"})


def is_non_word(text: str) -> bool:
    """Whether a text is mostly not words: 30 % of the tokens and at least two, or all of them; or
    mostly symbols.

    Signs alone are no non-words: such a text is empty.
    """
    symbols, characters = count_symbols(text), sum(map(len, text.split()))
    if symbols >= MIN_SYMBOLS and 2 * symbols > characters > symbols:
        return True
    judged = [verdict for token in text.split() if (verdict := _is_garbage(token)) is not None]
    bad = sum(judged)
    many = bad >= 2 and bad >= MIN_NON_WORD_SHARE * len(judged)
    return many or 0 < bad == len(judged)


@lru_cache(maxsize=65536)  # most tokens of an answer were in another one
def _is_garbage(token: str) -> bool | None:
    """Returns True for a non-word, False for a word or a number, None for an uninformative sign."""
    if any(c == "\ufffd" or unicodedata.category(c) in _TORN for c in token):
        return True
    if _LINK.search(token):
        return None
    core = _strip_symbols(token)
    if not core:
        return True if len(set(token)) > 1 and len(token) >= MIN_SYMBOL_RUN else None
    parts = [part for part in _JOINTS.split(core) if part]
    return sum(map(count_symbols, parts)) >= 2 or any(_is_garbage_part(part) for part in parts)


def _is_garbage_part(part: str) -> bool:
    if _SAME_LETTER.search(part.lower()) or len(_LETTER_DIGIT.findall(part)) >= 3:
        return True
    letters = [c for c in part if c.isalpha()]
    switches = sum(a.islower() and b.isupper() for a, b in pairwise(letters))
    if switches >= 3:
        return True
    cased = sum(c.lower() != c.upper() for c in letters)
    return cased > MAX_LETTERS or _is_unpronounceable("".join(letters))


def _is_unpronounceable(letters: str) -> bool:
    if not all(c.isascii() or unicodedata.name(c, "").startswith("LATIN") for c in letters):
        return False
    limit = MAX_VOWELLESS_CAPITALS if letters.isupper() else MAX_VOWELLESS
    plain = "".join(c for c in unicodedata.normalize("NFD", letters.lower()) if c.isalpha())
    vowelless = len(plain) > limit and not set(_VOWELS).intersection(plain)
    return vowelless or _CONSONANTS.search(plain) is not None


def _strip_symbols(token: str) -> str:
    inner = [i for i, c in enumerate(token) if is_word_character(c)]
    return token[inner[0] : inner[-1] + 1] if inner else ""
