from __future__ import annotations

import math

import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.accuracy import (
    exact_match,
    is_exact_match,
    is_right,
    kept_right,
    rouge_accuracy,
)
from unlearning.types import Generation


def test_exact_match_ignores_case_and_punctuation_only() -> None:
    assert is_exact_match(" paris,\nFrance!", "Paris France.")
    assert not is_exact_match("Paris in France", "Paris France")
    assert not is_exact_match("...", "...")


def test_right_from_the_threshold_on() -> None:
    tens = "a b c d e f g h i j"
    assert is_right("a b c d e f g x y z", tens)  # F1 = 7/10
    assert not is_right("a b c d e f w x y z", tens)  # F1 = 6/10
    assert is_right("a b c d e f w x y z", tens, threshold=0.6)


def test_an_answer_without_words_is_never_right() -> None:
    assert not is_right("", "")
    assert not is_right("?!", "?!")
    assert not is_right("", "Paris")


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1])
def test_threshold_is_checked(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold of a right answer"):
        is_right("a", "a", threshold)
    with pytest.raises(ConfigError, match="threshold of a right answer"):
        rouge_accuracy(_answers(["a"], ["a"]), threshold)


SAID = ["It is Paris", "Rome", "I think it is in Paris", ""]
TRUE = ["It is Paris.", "Vienna", "it is in Paris", "Linz"]


def _answers(said: list[str], true: list[str]) -> list[Generation]:
    return [
        Generation("s", "x", i, "?", *pair) for i, pair in enumerate(zip(true, said, strict=True))
    ]


def test_rates_by_hand() -> None:
    answers = [*_answers(SAID, TRUE), *_answers(["what"], ["..."])]  # the last has no true answer
    assert rouge_accuracy(answers).value == 0.5  # of the third: P 4/6, R 1, F1 0.8
    assert rouge_accuracy(answers, rouge_threshold=0.9).value == 0.25
    assert exact_match(answers).value == 0.25
    assert rouge_accuracy(answers).known.tolist() == [True] * 4 + [False]


def test_kept_right_asks_only_where_the_answer_was_right() -> None:
    after = _answers(["It is Paris", "Vienna", "no", "Linz"], TRUE)
    found = kept_right(after, _answers(SAID, TRUE))
    assert (found.value, int(found.known.sum())) == (0.5, 2)
    none = kept_right(after, _answers(["no"] * 4, TRUE))
    assert (math.isnan(none.value), int(none.known.sum())) == (True, 0)
