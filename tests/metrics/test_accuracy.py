from __future__ import annotations

import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.accuracy import RougeAccuracy, is_exact_match, is_right


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
        RougeAccuracy(threshold)


def test_rates_by_hand() -> None:
    rate = RougeAccuracy()
    rate.update(["It is Paris", "Rome"], ["It is Paris.", "Vienna"])
    rate.update(["I think it is in Paris", ""], ["it is in Paris", "Linz"])  # P 4/6, R 1: F1 0.8
    assert {k: v.item() for k, v in rate.compute().items()} == {
        "rouge_accuracy": 0.5,
        "exact_match": 0.25,
    }
