"""An adapter that was saved is loaded on its own base model, and on no other."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from conftest import tiny_opt
from peft import LoraConfig, get_peft_model

from models.test_adapter import KINDS, logits, train_a_little
from unlearning.errors import ConfigError
from unlearning.models.adapter import add_adapter, add_lora, merge_adapter
from unlearning.models.adapter_io import check_adapter_folder, load_adapter, save_adapter
from unlearning.models.fingerprint import base_fingerprint, weights_fingerprint
from unlearning.models.load import BASE_FILE, load_model, save_model


@pytest.fixture
def base(make_model, tokenizer, tmp_path):
    return save_model(make_model(), tokenizer, tmp_path / "base")


@pytest.fixture
def saved(base, tmp_path):
    """An adapter's folder, and what its model computes."""
    policy = add_lora(load_model(base), r=2)
    train_a_little(policy)
    return save_adapter(policy, tmp_path / "adapter"), logits(policy)


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_the_same_after_a_round_trip(base, tmp_path, caplog, kind):
    policy = add_adapter(load_model(base), kind, r=2)
    train_a_little(policy)
    folder = save_adapter(policy, tmp_path / "adapter")
    assert not (folder / "model.safetensors").exists()
    loaded = load_adapter(load_model(base), folder)
    torch.testing.assert_close(logits(loaded), logits(policy))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(logits(merge_adapter(loaded)), logits(policy), atol=1e-4, rtol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_trained_on(base, tmp_path, kind):
    folder = save_adapter(add_adapter(load_model(base), kind, r=2), tmp_path / "adapter")
    loaded = load_adapter(load_model(base), folder, trainable=True)
    trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_the_fingerprint_is_of_the_base_whatever_is_on_it(make_model):
    plain = make_model()
    expected = weights_fingerprint(plain)
    assert base_fingerprint(plain) == expected != base_fingerprint(make_model(seed=1))
    policy = add_lora(plain, r=2, target_modules="all-linear")
    train_a_little(policy)
    assert base_fingerprint(policy) == expected != weights_fingerprint(policy)
    assert base_fingerprint(merge_adapter(policy)) != expected


def test_another_base_model_is_refused_and_both_are_named(saved, base, tokenizer, tmp_path):
    folder, _ = saved
    other = save_model(tiny_opt(seed=1), tokenizer, tmp_path / "other")
    with pytest.raises(ConfigError, match="trained on another base model") as error:
        load_adapter(load_model(other), folder)
    for part in (str(folder), repr(str(base)), repr(str(other))):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match="another base model"):  # what was fine-tuned from it
        load_adapter(merge_adapter(load_adapter(load_model(base), folder)), folder)


def test_the_same_weights_elsewhere_are_taken_with_a_word(saved, base, tmp_path, caplog):
    folder, expected = saved
    moved = shutil.copytree(base, tmp_path / "moved")
    with caplog.at_level(logging.WARNING):
        loaded = load_adapter(load_model(moved), folder)
    torch.testing.assert_close(logits(loaded), expected)
    assert "moved" in caplog.text and "their weights are the same" in caplog.text


# --- adapters of others, without a fingerprint ---------------------------------------------------


@pytest.fixture
def theirs(base, tmp_path):
    """As PEFT saves it."""
    policy = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=["q_proj", "fc1"]))
    train_a_little(policy)
    policy.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    return tmp_path / "theirs", logits(policy)


def test_one_that_fits_is_taken_and_a_name_that_differs_is_told(theirs, base, tmp_path, caplog):
    folder, expected = theirs
    torch.testing.assert_close(logits(load_adapter(load_model(base), folder)), expected)
    assert not caplog.records
    moved = shutil.copytree(base, tmp_path / "moved")
    torch.testing.assert_close(logits(load_adapter(load_model(moved), folder)), expected)
    assert "nothing there tells whether" in caplog.text and str(base) in caplog.text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"architecture": "gpt2"}, r"GPT2LMHeadModel has no layer model\.decoder\.layers\.0"),
        ({"hidden_size": 48}, "has 48 inputs here and 32 in the adapter"),
        ({"ffn_dim": 80}, "fc1 has 80 outputs here and 64 in the adapter"),
        ({"num_hidden_layers": 1}, r"has no layer model\.decoder\.layers\.1"),
        ({"num_hidden_layers": 3}, r"nothing for 2 layers .* \(model\.decoder\.layers\.2"),
    ],
)
def test_one_that_does_not_fit_is_refused(theirs, base, make_model, other, message):
    folder, _ = theirs
    if "architecture" in other:
        model = make_model(other["architecture"])
    else:
        config = load_model(base).config
        for name, value in other.items():
            setattr(config, name, value)
        config.word_embed_proj_dim = config.hidden_size
        model = type(load_model(base))(config)
    with pytest.raises(ConfigError, match=message) as error:
        load_adapter(model, folder)
    assert "another base model" in str(error.value) and str(base) in str(error.value)


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_is_checked_before_anything_is_loaded(saved, base, tmp_path):
    folder, _ = saved
    assert check_adapter_folder(str(folder)) == folder
    with pytest.raises(ConfigError, match="No adapter at"):
        check_adapter_folder(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"has no adapter_config\.json.*model\.name_or_path"):
        check_adapter_folder(base)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no weights \(looked for adapter_model\.safetensors"):
        check_adapter_folder(folder)


def test_another_kind_of_adapter_is_refused(saved):
    folder, _ = saved
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(ConfigError, match="kind 'IA3'; those that can be merged here are LORA"):
        check_adapter_folder(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        check_adapter_folder(folder)


def test_nothing_is_overwritten_and_a_whole_model_is_no_adapter(saved, base, tmp_path):
    folder, _ = saved
    policy = load_adapter(load_model(base), folder)
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        save_adapter(policy, folder)
    with pytest.raises(ConfigError, match="has an adapter already"):
        load_adapter(policy, folder)
    with pytest.raises(ConfigError, match="OPTForCausalLM has no adapter to save"):
        save_adapter(load_model(base), tmp_path / "x")


def test_the_base_stands_beside_an_adapter_saved_with_its_tokenizer(base, tokenizer, tmp_path):
    policy = add_lora(load_model(base), r=2)
    folder = save_model(policy, tokenizer, tmp_path / "both")
    record = json.loads((folder / BASE_FILE).read_text())
    assert record == {"name": str(base), "fingerprint": base_fingerprint(load_model(base))}
