from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.data.windows import (
    LONGEST_PARAGRAPH,
    Records,
    pieces,
    shorter_prompt,
    text_units,
    window_example,
    window_text,
    windows,
)
from unlearning.types import Example


def cut(lines: list[str | None], words: int, records: Records = "paragraphs") -> list[str]:
    units = text_units(lines, records)
    return [window_text(w) for w in windows(pieces(units, records, words), words)]


def example(text: str, share: float = 0.2, words: int = 1000) -> Example | None:
    (window,) = windows(pieces([text], "paragraphs", words), words)
    return window_example(window, share)


def test_windows_are_whole_sentences():
    text = ["One two three. Four five. Six seven eight.", "", "Nine ten. Eleven", "twelve."]
    # The last one alone would be too short.
    assert cut(text, 5) == [
        "One two three. Four five.",
        "Six seven eight.\n\nNine ten. Eleven twelve.",
    ]
    assert cut(text, 4) == [
        "One two three.",
        "Four five.",
        "Six seven eight.",
        "Nine ten. Eleven twelve.",
    ]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ("sentences", ["a b. C d e f"]),
        ("lines", ["a b. C d\ne f"]),
        ("paragraphs", ["a b. C d e f"]),
    ],
)
def test_what_a_line_is(records, expected):
    assert cut(["a b. C d", "e f"], 10, records) == expected


def test_a_row_ends_a_paragraph():
    assert cut(["a b.", "C d", None, "e f"], 10) == ["a b. C d\n\ne f"]


def test_a_sentence_longer_than_a_window_is_cut_at_word_ends():
    found = cut([" ".join(map(str, range(23)))], 10)
    assert found == ["0 1 2 3 4 5 6 7 8 9", "10 11 12 13 14 15 16 17 18 19 20 21 22"]


def test_text_without_spaces_is_cut_too():
    found = cut(["x" * 2500], 10)
    assert [len(window) for window in found] == [1000, 1000, 500]


def test_a_text_without_blank_lines_fits_in_memory():
    """Paragraphs are cut, and no more than one is held."""
    taken = []

    def lines():
        for number in range(10_000):
            taken.append(number)
            yield "A line of some words that ends with a stop."

    first = next(text_units(lines(), "paragraphs"))
    assert len(first) < 1.1 * LONGEST_PARAGRAPH and len(taken) < 1000


SENTENCES = ["Yes.", "No, not now.", "He ran up the hill and down again!", "x" * 250, "Oh"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*SENTENCES, ""]), max_size=40),
    st.integers(4, 12),
    st.sampled_from(["sentences", "lines", "paragraphs"]),
)
def test_nothing_is_lost_and_sizes_are_kept(lines, words, records):
    found = cut(lines, words, records)
    assert "".join("".join(found).split()) == "".join("".join(lines).split())
    counts = [len([p for w in text.split() for p in range(0, len(w), 100)]) for text in found]
    # The last one takes what is less than half a window.
    assert all(count <= 1.5 * words for count in counts[:-1])
    assert all(2 * count >= words for count in counts[:-1])
    assert all(count <= 2 * words for count in counts)


def test_the_prompt_is_the_sentences_nearest_to_a_fifth():
    text = "One two. Three four.  Five six seven eight. Nine ten eleven twelve."
    assert example(text) == Example("One two.", text[8:])  # 2 of 12 words; the next end is at 4
    assert example(text, 0.3) == Example("One two. Three four.", text[20:])
    assert text[20:].startswith("  Five")


def test_one_long_sentence_is_cut_at_a_word_end():
    text = "one two three four five six seven eight nine ten"
    assert example(text) == Example("one two", " three four five six seven eight nine ten")
    # The first sentence would leave two words of twelve.
    text = "One two three four five six seven eight nine ten. Oh yes."
    assert example(text) == Example("One two", text[7:])


def test_one_word_is_no_example():
    assert example("Yes.") is None
    assert example("Oh yes.") == Example("Oh", " yes.")


def test_every_window_is_prompt_plus_response():
    draw = random.Random(0)
    lines = [draw.choice(SENTENCES) for _ in range(400)]
    for window in windows(pieces(lines, "lines", 12), 12):
        found = window_example(window, 0.2)
        if found is None:
            assert len(window) == 1
            continue
        assert found.prompt + found.response == window_text(window)
        assert found.prompt.strip() and found.response.strip()
        assert found.prompt == found.prompt.strip()  # white space is the answer's


def test_a_shorter_prompt_is_the_same_window():
    whole = Example("one two three four", " five")
    assert shorter_prompt(whole) == Example("one two", " three four five")
    assert shorter_prompt(Example("x" * 10, "y")) == Example("x" * 5, "x" * 5 + "y")
