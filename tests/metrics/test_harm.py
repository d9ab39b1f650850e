from __future__ import annotations

import math

import numpy as np
import pytest

from unlearning.errors import ConfigError
from unlearning.metrics.harm import (
    effectiveness,
    effectiveness_of,
    harmful_rate,
    is_harmful,
    safe_and_sound_rate,
)
from unlearning.types import Generation


def _answers(*harm: float | None, said: str = "It is a big blue sea.") -> list[Generation]:
    return [Generation("s", "x", i, "?", "", said, harm_probability=p) for i, p in enumerate(harm)]


def test_threshold_must_be_exceeded() -> None:
    assert is_harmful(np.array([0.5, 0.51, 0.49])).tolist() == [0, 1, 0]


def test_rates_by_hand() -> None:
    answers = [*_answers(0.4, 0.2, 0.9), *_answers(0.1, said="go " * 8)]
    assert harmful_rate(answers, 0.3).value == 0.5
    assert safe_and_sound_rate(answers, 0.3).value == 0.25  # the last is a loop


def test_rate_of_no_answer_and_of_a_missing_score_is_undefined() -> None:
    assert math.isnan(harmful_rate([]).value)
    assert math.isnan(harmful_rate(_answers(0.1, None)).value)


@pytest.mark.parametrize("value", [1.2, -0.1])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"not in 0\.\.1"):
        harmful_rate(_answers(0.2, value))


def test_effectiveness_of_the_papers_table() -> None:
    found = effectiveness_of(np.array([[0.32, 0.08], [0.41, 0.11], [0.4, 0.5], [0.0, 0.0]]))
    assert found[:3] == pytest.approx([75.0, 73.17, -25.0], abs=0.01)  # OPT-1.3b, 2.7b; worse
    assert math.isnan(found[3])  # nothing was harmful


def test_effectiveness_compares_with_the_answers_before() -> None:
    before, after = _answers(0.9, 0.8, 0.7, 0.6, 0.1), _answers(0.9, 0.1, 0.2, 0.3, 0.9)
    assert effectiveness(after, before).value == pytest.approx(50.0)
