"""Models are loaded whole, from their files alone, and run no code of their own."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from conftest import tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from unlearning.classifier.pretrained import check_local_classifier, load_classifier
from unlearning.data import FinetuningDataModule
from unlearning.errors import ConfigError
from unlearning.loading import load_tokenizer
from unlearning.metrics.bleurt import Bleurt
from unlearning.models.load import check_local_model, load_model

IDS = torch.tensor([[5, 9, 3, 7, 11]])
WEIGHTS = "model.safetensors"


def saved(folder, architecture="llama", tied=False):
    model = tiny_model(architecture)
    model.config.tie_word_embeddings = tied
    model = AutoModelForCausalLM.from_config(model.config).eval()
    model.save_pretrained(folder)
    return model


def change(folder, **changes):
    """Weights replaced in the file; None drops one."""
    weights = {**load_file(folder / WEIGHTS), **changes}
    kept = {name: w for name, w in weights.items() if w is not None}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def both(folder, message):
    for load in (load_model, check_local_model):
        with pytest.raises(ConfigError, match=message):
            load(folder)


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_loads_tied_or_not(tmp_path, architecture, tied, caplog):
    model = saved(tmp_path, architecture, tied)
    head = {"gpt_neox": "embed_out.weight"}.get(architecture, "lm_head.weight")
    assert (head in load_file(tmp_path / WEIGHTS)) == (not tied)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).eval()(IDS).logits, model(IDS).logits)
    found = check_local_model(tmp_path)
    assert {p.device.type for p in found.parameters()} == {"meta"}
    assert not caplog.records


LAYER = "model.layers.1.mlp.up_proj.weight"


def test_missing_weights_are_named_and_counted(tmp_path):
    saved(tmp_path)
    names = [n for n in load_file(tmp_path / WEIGHTS) if ".layers.1." in n]
    change(tmp_path, **dict.fromkeys(names))
    both(tmp_path, rf"lack {len(names)} of its 21 weights \({min(names)}, .*, \.\.\.\).*at random")


def test_a_base_model_without_its_head_is_refused_unless_the_head_is_the_embedding(tmp_path):
    saved(tmp_path / "untied").base_model.save_pretrained(tmp_path / "base")
    both(tmp_path / "base", r"lack 1 of its .*lm_head\.weight.*its head.*whole LlamaForCausalLM")
    tied = saved(tmp_path / "tied", tied=True)
    tied.base_model.save_pretrained(tmp_path / "tied_base")
    with torch.no_grad():
        found = load_model(tmp_path / "tied_base").eval()(IDS).logits
        assert torch.equal(found, tied(IDS).logits)


def test_weights_of_another_shape_are_refused(tmp_path):
    saved(tmp_path)
    change(tmp_path, **{LAYER: torch.zeros(3, 5)})
    both(tmp_path, rf"another shape.*{LAYER} is \[3, 5\] .* should be \[48, 32\]")


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",  # config.json has two layers
        "model.layers.0.self_attn.q_proj.bias",  # and no such bias
        "model.layers.0.self_attn.q_norm.weight",
        "lm_head.bias",
    ],
)
def test_weights_of_layers_that_the_configuration_leaves_out_are_refused(tmp_path, name):
    saved(tmp_path)
    change(tmp_path, **{name: torch.zeros(2)})
    both(tmp_path, rf"hold 1 weights of parts .* leaves out \({name}\)")


@pytest.mark.parametrize(
    "name", ["v_head.summary.weight", "model.layers.0.self_attn.other.inv_freq"]
)
def test_other_weights_are_told_in_a_line(tmp_path, name, caplog):
    saved(tmp_path)
    change(tmp_path, **{name: torch.zeros(2)})
    with caplog.at_level(logging.WARNING, "unlearning"):
        assert load_model(tmp_path)
    assert f"1 weights are not used ({name})" in caplog.text


def test_a_truncated_file_is_refused_before_it_is_loaded(tmp_path):
    saved(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    for content in (whole[:-10], whole[:200], whole[:5], b""):
        (tmp_path / WEIGHTS).write_bytes(content)
        both(tmp_path, rf"{WEIGHTS} \({len(content)} bytes\) is cut short or damaged")


# --- classifiers ---------------------------------------------------------------------------------


@pytest.fixture
def bert(tmp_path):
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=1,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    return tmp_path


HEAD = {"classifier.weight": None, "classifier.bias": None}


def test_a_classifier_without_its_head_is_random_and_refused(bert):
    check_local_classifier(str(bert))
    change(bert, **HEAD)
    for load in (load_classifier, check_local_classifier, Bleurt):
        with pytest.raises(ConfigError, match=r"lack 2 of .*classifier\.bias.*its head"):
            load(str(bert))
        if load is not Bleurt:  # a head that is trained next may be new
            load(str(bert), trained=False)


def test_an_encoder_with_holes_is_refused_even_to_be_trained(bert):
    change(bert, **HEAD, **{"bert.encoder.layer.0.output.dense.weight": None})
    for load in (load_classifier, check_local_classifier):
        with pytest.raises(ConfigError, match=r"lack 1 of .*layer\.0\.output\.dense\.weight"):
            load(str(bert), trained=False)


# --- code that comes with a model ----------------------------------------------------------------

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path({mark!r}).write_text("code was run")
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def with_code(tmp_path, tokenizer, monkeypatch):
    """A folder whose config asks for code, which would leave a mark, and the mark."""
    folder, mark = tmp_path / "with_code", tmp_path / "mark"
    saved(folder)
    tokenizer.save_pretrained(folder)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    own = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnModel",
        "AutoModelForSequenceClassification": "own.OwnModel",
    }
    edit(folder / "config.json", auto_map=own, model_type="own")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    return folder, mark


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}), encoding="utf-8")


def test_a_models_own_code_is_never_run_nor_asked_for(with_code):
    folder, mark = with_code
    message = "comes with Python code of its own .*That is never done here"
    both(folder, message)
    for load in (load_classifier, check_local_classifier, Bleurt):
        with pytest.raises(ConfigError, match=message):
            load(str(folder))
    assert not mark.exists()


def test_a_tokenizers_own_code_is_never_run(with_code):
    folder, mark = with_code
    edit(
        folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
    )  # fmt: skip
    for load in (load_tokenizer, lambda name: FinetuningDataModule([], name)):
        with pytest.raises(ConfigError, match=r"tokenizer .* comes with Python code of its own"):
            load(str(folder))
    assert not mark.exists()


def test_where_transformers_has_the_class_it_is_taken_instead(with_code, tmp_path, caplog):
    folder, mark = with_code
    edit(folder / "config.json", model_type="llama")
    with caplog.at_level(logging.WARNING, "unlearning"):
        model = load_model(folder)
    assert type(model).__name__ == "LlamaForCausalLM" and not mark.exists()
    assert "transformers' class is used" in caplog.text
    model.save_pretrained(tmp_path / "again")
    assert "auto_map" not in json.loads((tmp_path / "again/config.json").read_text())


def test_a_full_disk_or_memory_is_not_called_a_bad_model(monkeypatch, tmp_path):
    saved(tmp_path)

    def full(*_args, **_settings):
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    for error in (OSError(28, "No space left on device"), RuntimeError("CUDA out of memory")):
        with pytest.raises(type(error)):
            load_model(tmp_path)
