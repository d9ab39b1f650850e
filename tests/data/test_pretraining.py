"""Batches for a base model: everything once, like lengths together, validation apart."""

from __future__ import annotations

import json

import pytest

from unlearning.data import JsonlDataModule, PretrainingDataModule
from unlearning.data.pretraining import LengthBatches
from unlearning.types import TokenizedExample


@pytest.fixture
def sequences():
    lengths = [(7 * n) % 23 + 1 for n in range(60)]
    return [TokenizedExample((0,), tuple(range(length))) for length in lengths]


def test_every_sequence_once_within_the_tokens(sequences):
    batches = LengthBatches(sequences, batch_tokens=64, seed=0)
    for _ in range(2):
        count, drawn = len(batches), list(batches)
        assert len(drawn) == count
        assert sorted(number for batch in drawn for number in batch) == list(range(60))
        assert all(len(b) * max(batches.lengths[n] for n in b) <= 64 for b in drawn)


def test_orders_differ_by_epoch_and_agree_by_seed(sequences):
    one, two = LengthBatches(sequences, 64, seed=0), LengthBatches(sequences, 64, seed=0)
    first, second = list(one), list(one)
    assert first != second and first == list(two)
    fixed = LengthBatches(sequences, 64, seed=None)
    assert list(fixed) == list(fixed)


def test_pairs_and_text_together(tmp_path, tokenizer):
    rows = [{"prompt": f"what is {w} ?", "response": "blue"} for w in ("sky", "sun", "cat", "dog")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "book.txt").write_text("the sun is hot . " * 40)
    pairs = JsonlDataModule(str(tmp_path / "pairs.jsonl"), fractions=(1.0, 0.0, 0.0))
    data = PretrainingDataModule([pairs], str(tmp_path / "book.txt"), 21, 0.25, batch_tokens=100)
    data.tokenizer = tokenizer
    data.setup()
    windows = 40 * 5 / 20
    assert len(data.validation) == round(windows * 0.25)
    assert len(data.train) == 4 + windows - len(data.validation)
    batch = next(iter(data.train_dataloader()))
    assert batch.rows.input_ids.numel() <= 100 and set(batch.answers) == {"train"}
    assert any("### Question: what is sky ?" in text for text in data.texts())
    before = data.fingerprint()
    (tmp_path / "book.txt").write_text("the sun is cold . " * 40)
    assert data.fingerprint() != before
