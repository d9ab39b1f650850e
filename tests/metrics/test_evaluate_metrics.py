"""The `evaluate` classes: our own figures, together and alone, and no network."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import sacrebleu

from unlearning.errors import ConfigError
from unlearning.metrics.evaluate_metrics import Bleu, RougeL, Verbatim
from unlearning.metrics.memorisation import verbatim_chars, verbatim_words
from unlearning.metrics.similarity import bleu_signature, rouge_l_each

SAID = ["the cat sat on the mat today", "", "go on, go on", "a dog ran over the hill"]
TRUE = ["the cat sat on a mat today", "yes indeed", "on we go", "a dog ran over the hill"]
EXPECTED = {
    "bleu": sacrebleu.corpus_bleu(SAID, [TRUE]).score,
    "bleu_signature": bleu_signature(),
    "rouge_l": float(rouge_l_each(SAID, TRUE).mean()),
    "verbatim_chars": float(np.mean(list(map(verbatim_chars, SAID, TRUE)))),
    "verbatim_words": float(np.mean(list(map(verbatim_words, SAID, TRUE)))),
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every way out is shut, and files go to a folder of the test."""

    def shut(*_: Any, **__: Any) -> None:
        raise AssertionError("a metric asked for the network")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, shut)
    monkeypatch.setattr(socket.socket, "connect", shut)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))


def test_combined_they_give_our_figures() -> None:
    combined = evaluate.combine([Bleu(), RougeL(), Verbatim()])
    assert combined.compute(predictions=SAID, references=TRUE) == EXPECTED


def test_batches_add_up_and_are_forgotten_afterwards() -> None:
    combined = evaluate.combine([Bleu(), RougeL(), Verbatim()])
    for _ in range(2):
        combined.add_batch(predictions=SAID[:1], references=TRUE[:1])
        combined.add_batch(predictions=SAID[1:3], references=TRUE[1:3])
        combined.add(prediction=SAID[3], reference=TRUE[3])
        assert combined.compute() == EXPECTED


@pytest.mark.parametrize("in_memory", [True, False])
def test_two_of_a_kind_do_not_meet(in_memory: bool, tmp_path: Path) -> None:
    """Not in a file either, when they write to one at the same time."""
    both = {name: Bleu(keep_in_memory=in_memory, cache_dir=str(tmp_path)) for name in ("a", "b")}
    both["a"].add_batch(predictions=SAID, references=TRUE)
    both["b"].add_batch(predictions=TRUE, references=TRUE)
    assert both["a"].compute()["bleu"] == pytest.approx(EXPECTED["bleu"])
    assert both["b"].compute()["bleu"] == pytest.approx(100)
    found = evaluate.combine(both).compute(predictions=SAID, references=TRUE)
    assert found["a_bleu"] == found["b_bleu"] == EXPECTED["bleu"]
    assert not list(tmp_path.rglob("*.arrow"))


def test_what_is_no_pair_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(2\)"):
        Bleu().compute(predictions=SAID[:2], references=TRUE[:1])
    with pytest.raises(ValueError, match="don't match the expected format"):
        Verbatim().compute(predictions=[["a", "b"]], references=["a"])
    with pytest.raises(ConfigError, match="RougeL was given no text"):
        RougeL().compute()


def test_no_pair_has_no_mean() -> None:
    assert math.isnan(RougeL().compute(predictions=[], references=[])["rouge_l"])
    assert math.isnan(Verbatim().compute(predictions=[], references=[])["verbatim_words"])


def test_they_say_what_they_are() -> None:
    assert "sacrebleu" in Bleu().description
    assert set(Verbatim().features) == {"predictions", "references"}
