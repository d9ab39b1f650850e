from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearning.data.sentences import sentences


@pytest.mark.parametrize(
    "expected",
    [
        ["One. ", "Two! ", "Three?  ", "Four"],
        ['"Come here," she said. ', '"Now!" ', "He came."],
        ['"Now!" she said. ', "He came."],  # a small letter goes on
        ["He saw Mr. Fox and Dr. Owl. ", "They ran."],
        ["It was J. R. Reed who wrote. ", "So it was I. ", "It is."],
        ["He said no. ", "She left."],
        ["Wait... what? ", "Yes\u2026 ", "\u201cWell.\u201d ", "(It ended.) ", "End"],
        ["At 3.15 the train left. ", "20 men stood there."],
        ["CHAPTER I\n\n", "A heading has no stop.\n \n", "And a line\nends anywhere."],
        ["all in small letters . one record of the hub is one sentence . so nothing is cut"],
        ["Mr. "],
        [],
    ],
)
def test_sentences_by_hand(expected: list[str]) -> None:
    assert list(sentences("".join(expected))) == expected


@given(st.text(alphabet="aB. !?\"'\n\u2026)I", max_size=60))
def test_nothing_is_lost(text: str) -> None:
    found = list(sentences(text))
    assert "".join(found) == text
    assert all(found)


def test_long_runs_take_linear_time() -> None:
    """A row of dots, as in a table of contents, takes no time that grows with its square."""
    for text in ("." * 200_000, " " * 200_000, "a. " * 70_000, "\n" * 200_000, ". a" * 70_000):
        assert "".join(sentences(text)) == text
