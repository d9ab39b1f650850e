from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unlearning.metrics.perplexity import (
    mean_token_nll,
    perplexity,
    target_nll,
    target_perplexity,
)
from unlearning.types import Generation


def _answers(*scores: tuple[float, int]) -> list[Generation]:
    return [
        Generation("s", "x", i, "?", "a", "b", target_nll=nll, target_tokens=tokens)
        for i, (nll, tokens) in enumerate(scores)
    ]


def test_by_hand() -> None:
    # tokens of probability 1/2, 1/2 and 1/8: sum NLL = 5 ln 2 over 3 tokens
    assert perplexity(5 * math.log(2), 3) == pytest.approx(2 ** (5 / 3))
    assert mean_token_nll([6.0, 1.0], [3, 4]).tolist() == [2.0, 0.25]


def test_metric_weighs_tokens_not_answers() -> None:
    answers = _answers((2.0, 1), (10.0, 9), (0.0, 10))
    assert target_nll(answers).value == pytest.approx(12 / 20)
    assert target_perplexity(answers).value == pytest.approx(math.exp(0.6))


def test_against_log_softmax_of_logits() -> None:
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(7)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    answers = _answers((nll[:3].sum().item(), 3), (nll[3:].sum().item(), 4))
    assert target_perplexity(answers).value == pytest.approx(nll.mean().exp().item(), rel=1e-6)


def test_a_hopeless_token_stays_finite_and_overflow_is_infinite() -> None:
    assert target_perplexity(_answers((200.0, 1))).value == pytest.approx(math.exp(200))
    assert target_perplexity(_answers((200.0, 1), (5000.0, 1))).value == math.inf
    assert perplexity([1e6], [1]).tolist() == [math.inf]


def test_no_token_is_undefined() -> None:
    assert math.isnan(target_perplexity([]).value)
    assert math.isnan(target_perplexity(_answers((1.0, 2), (0.0, 0))).value)
    assert np.isnan(perplexity([0.0], [0])).all()
