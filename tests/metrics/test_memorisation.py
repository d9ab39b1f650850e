from __future__ import annotations

import random
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pytest
from work import lines_run

from unlearning.metrics.memorisation import (
    exact_memorisation,
    extraction_strength,
    longest_common_run,
    mean_exact_memorisation,
    mean_extraction_strength,
    mean_verbatim_chars,
    mean_verbatim_tokens,
    verbatim_chars,
    verbatim_tokens,
    verbatim_words,
)
from unlearning.types import Generation


def _every_run(first: Sequence[Any], second: Sequence[Any]) -> int:
    """All runs of both, compared one by one."""
    runs = [
        {tuple(items[i:j]) for i in range(len(items)) for j in range(i, len(items) + 1)}
        for items in (first, second)
    ]
    return max((len(run) for run in runs[0] & runs[1]), default=0)


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [
        ("the old mill", "an old mile", 8),  # " old mil"
        ("aaaa", "aa", 2),
        ("abcabd", "abd", 3),  # not at the first place where it begins
        ("xab", "ab", 2),  # ends where the text ends
        ("", "abc", 0),
        ("abc", "", 0),
        ("abc", "xyz", 0),
        ([7, 8, 9, 1], [5, 8, 9, 1, 2], 3),
        ([1, 2], ["1", "2"], 0),
        ((3, 4), [3, 4], 2),
    ],
)
def test_longest_run_by_hand(first: Any, second: Any, length: int) -> None:
    assert longest_common_run(first, second) == length
    assert longest_common_run(second, first) == length


@pytest.mark.parametrize("seed", range(20))
def test_longest_run_is_that_of_all_runs(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        first, second = (draw.choices(range(3), k=draw.randrange(0, 15)) for _ in range(2))
        expected = _every_run(first, second)
        assert longest_common_run(first, second) == expected
        assert longest_common_run("".join(map(str, first)), "".join(map(str, second))) == expected


@pytest.mark.parametrize("seed", range(5))
def test_longest_run_is_that_of_difflib(seed: int) -> None:
    draw = random.Random(seed)
    first = draw.choices(range(40_000), k=300)
    second = draw.choices(first, k=50) + first[40:95] + draw.choices(range(40_000), k=200)
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    assert longest_common_run(first, second) == matcher.find_longest_match().size >= 55


@pytest.mark.parametrize(
    ("first", "second"), [("a" * 3000, "a" * 2999 + "b"), ("ab" * 1500, "ba" * 1500)]
)
def test_no_text_makes_the_run_slow(first: str, second: str) -> None:
    """A few lines a character where a table of both texts has nine million entries."""
    assert longest_common_run(first, second) == 2999
    assert lines_run(longest_common_run, first, second) < 10 * 3000


def test_verbatim_in_characters_words_and_tokens() -> None:
    said, true = " and the mill stood still.\n", "The mill stood there"
    assert verbatim_chars(said, true) == len("he mill stood ")
    assert verbatim_words(said, true) == 2  # mill stood
    assert verbatim_chars(" the sea\n", " the sea\n") == 7  # white space around it is no text
    assert verbatim_chars("a the ", "b the ") == 4  # within it it is
    # 2 ends a text and 1 fills it up: neither is text
    assert verbatim_tokens([5, 6, 7, 2], [4, 5, 6, 7], special={1, 2}) == 3
    assert verbatim_tokens([2], [2, 9], special={2}) == 0
    assert verbatim_tokens([], [4]) == 0


def test_a_perfect_copy_is_all_of_it() -> None:
    text = "Out of the hill came the grey folk, singing."
    assert verbatim_chars(text, text) == len(text)
    assert verbatim_words(text, text) == len(text.split())


def test_shares_by_hand() -> None:
    # 10 tokens, 7 right, the last 4 without a miss: from a true beginning of 6 the rest follows
    assert extraction_strength([4, 10, 0], [10, 10, 10]).tolist() == [1 - 6 / 10, 1, 0]
    assert exact_memorisation([7, 10, 0], [10, 10, 10]).tolist() == [0.7, 1, 0]
    assert float(extraction_strength(1, 4)) == 0.25


def test_a_text_without_tokens_has_no_share() -> None:
    assert np.isnan(extraction_strength([0], [0])).all()
    assert np.isnan(exact_memorisation([0, np.nan], [0, 3])).all()


def test_means_over_prompts_by_hand() -> None:
    said, true = ["the cat sat", "", "a dog"], ["a cat sat", "yes", "a dog"]
    known = ((3, 1, 4), (0, 0, 2), (5, 5, 5))
    answers = [
        Generation(
            "s", "x", i, "?", true[i], said[i], target_nll=1.0, target_matches=known[i][0],
            target_suffix=known[i][1], target_tokens=known[i][2], verbatim_tokens=i,
        )
        for i in range(3)
    ]  # fmt: skip
    assert mean_verbatim_chars(answers).value == pytest.approx((8 + 0 + 5) / 3)  # " cat sat", all
    assert mean_verbatim_tokens(answers).value == 1
    assert mean_extraction_strength(answers).value == pytest.approx((1 / 4 + 0 + 1) / 3)
    assert mean_exact_memorisation(answers).value == pytest.approx((3 / 4 + 0 + 1) / 3)
