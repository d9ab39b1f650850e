"""n-grams of words that stand in two texts."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator

import pytest

from unlearning.data.ngrams import check_no_shared_text, ngrams, words
from unlearning.errors import ConfigError

LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()  # noqa: SIM905


def test_words_are_compared_without_case_and_marks():
    assert words("Don\u2019t  STOP--said “he”; _no_ \n10,5!") == [
        "dont", "stop", "said", "he", "no", "10", "5",
    ]  # fmt: skip
    assert words("don't") == words("DON\u2019T")
    assert words("... — !") == []


def test_number_of_ngrams():
    assert [len(list(ngrams("a b c d e", n))) for n in (1, 3, 5, 6)] == [5, 3, 1, 0]
    first, second, _ = ngrams("a b c a b", 3)
    assert list(ngrams("A, b c", 3)) == [first] != [second]


def test_a_shared_text_is_an_error_that_shows_one_stretch():
    book = ["one two three four", "a b c d e f g"]
    corpus = ["nothing of it", "x y A b, c D! e z", "e f g"]
    # Word 3-grams of the book, read as one text: 11 words, 9 of them; shared: abc, bcd, cde, efg.
    with pytest.raises(ConfigError) as error:
        check_no_shared_text(book, corpus, n=3)
    assert str(error.value) == (
        "4 of the 9 distinct sequences of 3 words in the book (44.44%) also stand in the retain "
        "corpus, for example 'a b c d e' (book: text 2, from word 1; retain corpus: text 2, from "
        "word 3). A text cannot be both forgotten and kept: remove the book from the retain "
        "corpus, or use another one."
    )


def test_only_the_first_stretch_is_shown_and_never_at_length():
    text = " ".join(f"w{k}" for k in range(100))
    with pytest.raises(ConfigError, match=r"'w0 (w\d+ )+w39' .*kept: text 1, from word 2\)") as e:
        check_no_shared_text([text], [f"a {text} b w7 w8 w9"], n=3, names=("story", "kept"))
    assert "98 of the 98" in str(e.value) and "in the story (100.00%)" in str(e.value)


def test_below_the_share_it_is_a_warning(caplog):
    book = [" ".join(LETTERS)]  # 24 3-grams
    with caplog.at_level(logging.WARNING):
        check_no_shared_text(book, ["1 a b c 2"], n=3, share=1 / 24)
    assert "1 of the 24 distinct" in caplog.text and "'a b c'" in caplog.text
    with pytest.raises(ConfigError, match="1 of the 24"):
        check_no_shared_text(book, ["1 a b c 2"], n=3, share=1 / 25)


def test_nothing_shared_is_silent(caplog):
    with caplog.at_level(logging.WARNING):
        check_no_shared_text([" ".join(LETTERS)], ["a b", "d e", "", "z y x"], n=3)
        check_no_shared_text([], ["a b c"], n=3)
        check_no_shared_text(["a b"], ["a b"], n=3)
    assert caplog.text == ""


def test_a_corpus_of_single_sentences_is_read_as_running_text():
    pieces = [" ".join(LETTERS[k : k + 4]) for k in range(0, 24, 4)]
    with pytest.raises(ConfigError, match=r"12 of the 14 .* text 1, from word 1; .* from word 1\)"):
        check_no_shared_text([" ".join(LETTERS)], pieces)


def test_memory_does_not_grow_with_the_corpus():
    def corpus(size: int) -> Iterator[str]:
        return (f"row {k} holds words of its own {k * k} and {k + 1}" for k in range(size))

    def peak(size: int) -> int:
        tracemalloc.start()
        check_no_shared_text([" ".join(LETTERS)], corpus(size), n=5)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # caches of the standard library
    # The rows alone are 200 kB; a few kB are of the test runner's other thread.
    assert peak(4000) < peak(1000) + 20_000


def test_words_of_an_ngram():
    with pytest.raises(ConfigError, match="n=0"):
        check_no_shared_text(["a"], ["a"], n=0)
