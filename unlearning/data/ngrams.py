"""Finds text that two sets have in common, by the n-grams of words they share."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from unlearning.data.overlap import normalise
from unlearning.errors import ConfigError

log = logging.getLogger(__name__)
APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
WORD = re.compile(r"[^\W_]+")
SHOWN_WORDS = 40


def words(text: str) -> list[str]:
    """Splits a text into words as they are compared: normalised, without punctuation.

    Words joined by an apostrophe, of any form, are one word; a dash separates words.

    Examples:
        >>> words("The road's end, at last!")
        ['the', 'roads', 'end', 'at', 'last']
    """
    return WORD.findall(APOSTROPHE.sub("", normalise(text)))


def ngrams(text: str, n: int) -> Iterator[int]:
    """Hashes a text's word n-grams, in order; hashes are equal within one process only."""
    found = words(text)
    return (hash(tuple(found[k : k + n])) for k in range(len(found) - n + 1))


def check_no_shared_text(
    book: Iterable[str],
    corpus: Iterable[str],
    n: int = 13,
    share: float = 1e-3,
    names: tuple[str, str] = ("book", "retain corpus"),
) -> None:
    """Raises a ConfigError where a book to forget also stands in the corpus to retain.

    Each side is read as one running text, because corpora come a sentence a row and a sentence
    alone is often shorter than n words. The corpus streams through: memory is the book's.

    Args:
        book: its texts in order, for example chapters.
        corpus: any iterable of texts, however long.
        n: words of an n-gram; 13 is what GPT-3's authors took (arXiv 2005.14165, appendix C).
        share: of the book's distinct n-grams that may be found, since quotations of a proverb or
            a psalm are in many books; what is found below it is a warning.

    Raises:
        ConfigError: more than that share is found; says how many, and shows one stretch.
    """
    if n < 1:
        raise ConfigError(f"n={n}: an n-gram has at least one word. Use for example 13.")
    places: dict[int, tuple[int, int]] = {}
    for text, word, gram, _ in _running_ngrams(book, n):
        places.setdefault(gram, (text, word))
    found: set[int] = set()
    stretch, last = _Stretch(), None
    for text, word, gram, window in _running_ngrams(corpus, n):
        if gram not in places:
            last = None
            continue
        found.add(gram)
        if stretch.extend(window, goes_on=last is not None):
            stretch.place = stretch.place or (*places[gram], text, word)
        last = gram
    if not found:
        return
    message = (
        f"{len(found)} of the {len(places)} distinct sequences of {n} words in the {names[0]} "
        f"({len(found) / len(places):.2%}) also stand in the {names[1]}{stretch.where(names)}."
    )
    if len(found) > share * len(places):
        raise ConfigError(
            f"{message} A text cannot be both forgotten and kept: remove the {names[0]} from the "
            f"{names[1]}, or use another one."
        )
    log.warning("%s That is little enough to be quotations; the run goes on.", message)


class _Stretch:
    """The first run of shared words, extended as far as both texts agree."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.place: tuple[int, int, int, int] | None = None
        self.closed = False

    def extend(self, window: list[str], goes_on: bool) -> bool:
        if self.words and not goes_on:
            self.closed = True
        if self.closed:
            return False
        self.words = [*self.words, window[-1]] if self.words else list(window)
        self.closed = len(self.words) >= SHOWN_WORDS
        return True

    def where(self, names: tuple[str, str]) -> str:
        assert self.place is not None
        book_text, book_word, text, word = self.place
        return (
            f", for example '{' '.join(self.words)}' ({names[0]}: text {book_text}, from word "
            f"{book_word}; {names[1]}: text {text}, from word {word})"
        )


def _running_ngrams(texts: Iterable[str], n: int) -> Iterator[tuple[int, int, int, list[str]]]:
    """Yields (text, word, hash, words) of each n-gram; text and word, from 1, say where it
    begins."""
    window: list[str] = []
    begins: list[tuple[int, int]] = []
    for number, text in enumerate(texts, start=1):
        for place, word in enumerate(words(text), start=1):
            window.append(word)
            begins.append((number, place))
            if len(window) > n:
                del window[0], begins[0]
            if len(window) == n:
                yield (*begins[0], hash(tuple(window)), window)
