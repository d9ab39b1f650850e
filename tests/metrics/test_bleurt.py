from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from unlearning.errors import ConfigError
from unlearning.metrics.bleurt import Bleurt

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "dog", "ran"]


def _save(folder: Path, num_labels: int) -> Path:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=num_labels,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_scores_are_the_models_outputs_one_pair_at_a_time(tmp_path: Path) -> None:
    bleurt = Bleurt(str(_save(tmp_path / "tiny", 1)), batch_size=2)
    hypotheses = ["the cat", "dog ran", "the cat sat the cat sat"]
    targets = ["the cat sat", "the dog ran", "the " * 40]
    scores = bleurt(hypotheses, targets)
    alone = []
    for hypothesis, target in zip(hypotheses, targets, strict=True):
        tokens = bleurt.tokenizer(
            target, hypothesis, truncation=True, max_length=16, return_tensors="pt"
        )
        with torch.no_grad():
            alone.append(bleurt.model(**tokens).logits.item())
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    assert len(set(scores.round(6))) == 3
    assert bleurt([], []).shape == (0,)


def test_a_classifier_is_no_similarity(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 6 outputs"):
        Bleurt(str(_save(tmp_path / "six", 6)))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no weights"):
        Bleurt(str(tmp_path / "empty"))
