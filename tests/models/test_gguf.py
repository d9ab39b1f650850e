"""A GGUF file is a model like any other: loaded, trained, saved, and refused when it is damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")

from gguf_file import llama, write_gguf

from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora
from unlearning.models.adapter_io import load_adapter, save_adapter
from unlearning.models.gguf import gguf_config
from unlearning.models.load import (
    check_local_model,
    check_model_folder,
    check_vocabulary,
    load_model,
    load_tokenizer,
    save_model,
)
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.models import ordinary_folder

IDS = torch.tensor([[5, 9, 3, 7, 11, 200]])
REAL = os.environ.get("UNLEARNING_TEST_GGUF")
"""A quantised chat model of English, to be tried where there is one."""


@pytest.fixture(scope="module")
def original():
    return llama()


@pytest.fixture(scope="module")
def file(original, tmp_path_factory):
    return write_gguf(original, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_it_computes_what_the_model_it_was_written_from_does(original, file):
    loaded = load_model(file)
    assert loaded.training and loaded.dtype == torch.float32
    assert type(loaded) is type(original)
    torch.testing.assert_close(logits(loaded), logits(original))
    assert logits(loaded).std() > 0.1  # not uniform
    assert loaded.name_or_path == str(file)
    config = gguf_config(file)
    assert (config.num_hidden_layers, config.max_position_embeddings) == (2, 128)


def test_it_is_saved_as_an_ordinary_folder(original, file, tmp_path):
    model, tokenizer = load_model(file), load_tokenizer(file)
    folder = save_model(model, tokenizer, tmp_path / "saved")
    assert check_local_model(folder) is not None
    again, other = load_model(folder), load_tokenizer(folder)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert torch.equal(logits(again), logits(model))
    text = "Wie geht's? Heiter, 7 €"
    assert "ei" in tokenizer.tokenize(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert other(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert other.eos_token == tokenizer.eos_token == "<|end|>"


def test_an_adapter_knows_its_file_again(file, tmp_path):
    policy = add_lora(load_model(file), r=2)
    torch.nn.init.normal_(next(p for n, p in policy.named_parameters() if "lora_B" in n))
    adapter = save_adapter(policy, tmp_path / "adapter")
    assert torch.equal(logits(load_adapter(load_model(file), adapter)), logits(policy))


def test_files_beside_it_are_another_models(original, file, tmp_path):
    moved = shutil.copy(file, tmp_path / "tiny.gguf")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_text('{"auto_map": {"AutoTokenizer": [null, "x.X"]}}')
    (tmp_path / "chat_template.jinja").write_text("of another model")
    torch.testing.assert_close(logits(load_model(moved)), logits(original))
    tokenizer = load_tokenizer(moved)
    assert len(tokenizer) == 259 and tokenizer.chat_template is None


def test_a_run_keeps_it_as_a_folder_made_once(original, file, tmp_path):
    store = Store(tmp_path / "kept")
    folder = ordinary_folder(store, str(file))
    torch.testing.assert_close(logits(load_model(folder)), logits(original))
    assert len(load_tokenizer(folder)) == 259
    stamp = (Path(folder) / "model.safetensors").stat().st_mtime_ns
    assert ordinary_folder(store, str(file)) == folder
    assert (Path(folder) / "model.safetensors").stat().st_mtime_ns == stamp
    assert ordinary_folder(store, "gpt2") == "gpt2"


def test_another_files_content_is_another_model(file, tmp_path):
    first = shutil.copy2(file, tmp_path / "a.gguf")
    before = model_identity(str(first))
    assert before == model_identity(str(first))
    first.write_bytes(first.read_bytes() + b"\0" * 32)
    assert model_identity(str(first)) != before != model_identity(str(file))


def test_one_without_a_tokenizer_says_so(original, tmp_path):
    bare = write_gguf(original, tmp_path / "bare.gguf", with_tokenizer=False)
    with pytest.raises(ConfigError, match=r"holds no tokenizer\. Name one: model\.tokenizer"):
        load_tokenizer(bare)
    torch.testing.assert_close(logits(load_model(bare)), logits(original))


def test_a_damaged_file_is_refused(file, tmp_path):
    content, damaged = file.read_bytes(), tmp_path / "damaged.gguf"
    for broken in (content[:-100], content[:300], b"", b"PK\3\4" + content[4:]):
        damaged.write_bytes(broken)
        for load in (check_model_folder, load_model, load_tokenizer, gguf_config):
            with pytest.raises(ConfigError, match=r"no GGUF file, or was cut short"):
                load(damaged)
    with pytest.raises(ConfigError, match="No GGUF file at"):
        load_model(tmp_path / "none.gguf")


def test_without_the_package_the_extra_is_named(file, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'unlearning\[gguf\]'"):
        load_model(file)


def test_eight_bits_are_refused(file):
    with pytest.raises(ConfigError, match="whose weights are loaded in full"):
        load_model(file, eight_bit=True)


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="UNLEARNING_TEST_GGUF names no file")
def test_a_real_model_knows_english_and_answers():
    model, tokenizer = load_model(str(REAL)).eval(), load_tokenizer(str(REAL))
    assert check_vocabulary(model, tokenizer) is None

    def nll(text):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    plain = "The capital of France is Paris, and it lies on the river Seine."
    backwards = " ".join(reversed(plain.split()))
    print("NLL", nll(plain), nll(backwards))
    assert nll(plain) < 3 < nll(backwards)
    question = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    asked = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    found = model.generate(**asked, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(found[0, asked["input_ids"].shape[1] :])
    print("answer", answer)
    assert "Paris" in answer
