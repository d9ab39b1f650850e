"""Multiple choice by likelihood, against lm-evaluation-harness's rule written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.choice import choice_accuracy, choice_accuracy_norm, chosen
from unlearning.types import AlternativeScore, Generation


def _asked(choices: list[tuple[str, float, int, float]], label: int | None = 0) -> Generation:
    scores = [AlternativeScore(text, nll, tokens, end) for text, nll, tokens, end in choices]
    return Generation("s", "x", 0, "?", "", "", alternatives={"choices": scores}, label=label)


def test_by_hand() -> None:
    # log-likelihoods -4 and -6 without the end token; per character -4/2 and -6/12
    one = _asked([("no", 5.0, 2, 1.0), ("certainly so", 6.5, 3, 0.5)], label=1)
    assert chosen(one) == 0 and chosen(one, "characters") == 1
    assert choice_accuracy([one]).value == 0 and choice_accuracy_norm([one]).value == 1
    assert chosen(one, "tokens") == 1  # 4/1 and 6/2
    assert choice_accuracy_norm([one], length="tokens").value == 1


def test_the_end_token_does_not_decide() -> None:
    one = _asked([("a", 9.0, 2, 8.5), ("b", 2.0, 2, 0.5)])
    assert chosen(one) == 0


def test_bytes_are_not_characters() -> None:
    # 6 characters each, 12 and 6 bytes: 9/12 < 5/6, while 9/6 > 5/6
    one = _asked([("жжжжжж", 9.0, 3, 0.0), ("abcdef", 5.0, 3, 0.0)])
    assert (chosen(one, "characters"), chosen(one, "bytes")) == (1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_harness(seed: int) -> None:
    """`np.argmax(lls)` and `np.argmax(lls / completion_len)`, as `process_results` has them."""
    random = np.random.default_rng(seed)
    answers, acc, acc_norm = [], [], []
    for _ in range(40):
        texts = ["w" * int(n) for n in random.integers(1, 30, size=4)]
        lls, gold = -random.exponential(10, size=4), int(random.integers(4))
        lengths = np.array([float(len(text)) for text in texts])
        acc.append(float(np.argmax(lls) == gold))
        acc_norm.append(float(np.argmax(lls / lengths) == gold))
        answers.append(_asked([(t, float(-ll), 1, 0.0) for t, ll in zip(texts, lls)], gold))  # noqa: B905
    assert choice_accuracy(answers).value == pytest.approx(np.mean(acc))
    assert choice_accuracy_norm(answers).value == pytest.approx(np.mean(acc_norm))
    assert 0 < np.mean(acc) < 1 and acc != acc_norm


def test_prompts_without_choices_do_not_count() -> None:
    plain = Generation("s", "x", 1, "?", "", "")
    right = _asked([("a", 1.0, 1, 0.0), ("b", 2.0, 1, 0.0)])
    assert choice_accuracy([right, plain]).value == 1
    assert choice_accuracy([plain]) is None


@pytest.mark.parametrize("label", [None, -1, 2])
def test_a_label_that_names_no_choice_is_refused(label: Any) -> None:
    with pytest.raises(ConfigError, match="2 choices; expected the number of the right one"):
        choice_accuracy([_asked([("a", 1.0, 1, 0.0), ("b", 2.0, 1, 0.0)], label)])
    with pytest.raises(ConfigError, match="length is 'words'"):
        choice_accuracy_norm([], length="words")  # type: ignore[arg-type]
