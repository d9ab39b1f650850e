"""A base model from scratch: tokenizer, architecture, training, folder."""

from __future__ import annotations

import json

import pytest
from lightning import Trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearning.data import JsonlDataModule, PretrainingDataModule
from unlearning.pretrain import new_opt, train_base, train_tokenizer

TEXTS = ["what is the capital of France ? the capital of France is Paris"] * 4


def test_the_tokenizer_is_lossless_repeatable_and_has_opts_places():
    one, two = train_tokenizer(TEXTS, 300), train_tokenizer(TEXTS, 300)
    assert one.get_vocab() == two.get_vocab()
    text = "naïve café: 3 ÷ 4\n\n« où »"
    ids = one(text)["input_ids"]
    assert ids[0] == one.bos_token_id == 0
    assert (one.pad_token_id, one.eos_token_id, one.unk_token_id) == (1, 2, 3)
    assert one.decode(ids, skip_special_tokens=True) == text


def test_weights_depend_on_the_seed_only():
    tokenizer = train_tokenizer(TEXTS, 300)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32}
    first, again, other = (new_opt(tokenizer, seed, **shape) for seed in (0, 0, 1))
    weight = first.lm_head.weight
    assert weight.equal(again.lm_head.weight) and not weight.equal(other.lm_head.weight)
    assert first.config.dropout == 0 and weight.shape[0] == len(tokenizer)


@pytest.mark.slow
def test_training_learns_and_saves_a_folder(tmp_path):
    rows = [{"prompt": f"word {n}", "response": f"answer {n}"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = JsonlDataModule(str(tmp_path / "pairs.jsonl"), fractions=(1.0, 0.0, 0.0))
    trainer = Trainer(
        max_steps=60, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    shape = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 64,
        "max_position_embeddings": 64,
    }  # fmt: skip
    losses = train_base(
        PretrainingDataModule([pairs]), tmp_path / "base", architecture=shape, vocab_size=300,
        training={"learning_rate": 1e-2}, trainer=trainer,
    )  # fmt: skip
    assert losses["train/nll"] < 1.0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.vocab_size == len(tokenizer) and tokenizer.eos_token == "</s>"
