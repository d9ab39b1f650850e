from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora
from unlearning.models.load import (
    check_eight_bit,
    check_model_folder,
    check_vocabulary,
    disable_dropout,
    load_model,
    load_tokenizer,
    save_model,
)

IDS = torch.tensor([[5, 9, 3, 7, 11]])


def dropout_of(model) -> dict[str, float]:
    """Every dropout rate that a module or its float attributes hold."""
    rates = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            rates[path] = module.p
        rates |= {f"{path}.{k}": v for k, v in vars(module).items() if k.endswith("dropout")}
    return {name: rate for name, rate in rates.items() if isinstance(rate, float)}


def test_a_saved_model_loads_in_fp32_without_dropout_in_train_mode(model, tokenizer, tmp_path):
    folder = save_model(model.half(), tokenizer, tmp_path / "model", card="# What was forgotten")
    loaded = load_model(folder)
    assert loaded.dtype == torch.float32 and loaded.training
    assert dropout_of(loaded) and set(dropout_of(loaded).values()) == {0.0}
    torch.testing.assert_close(loaded.state_dict(), model.float().state_dict())
    assert len(load_tokenizer(folder)) == len(tokenizer)
    assert (folder / "README.md").read_text() == "# What was forgotten"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing left aside


def test_a_saved_model_loads_without_our_code(model, tokenizer, tmp_path):
    folder = save_model(model, tokenizer, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(theirs(IDS).logits, model.eval()(IDS).logits)
    assert (
        AutoTokenizer.from_pretrained(folder)("a cat")["input_ids"]
        == tokenizer("a cat")["input_ids"]
    )
    assert load_file(folder / "model.safetensors")


def test_an_adapter_is_saved_alone_and_loads_onto_its_base(model, tokenizer, tmp_path):
    base = save_model(model, tokenizer, tmp_path / "base")
    policy = add_lora(load_model(base), r=2)
    torch.nn.init.normal_(next(p for n, p in policy.named_parameters() if "lora_B" in n))
    folder = save_model(policy, tokenizer, tmp_path / "adapter")
    assert (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(theirs(IDS).logits, policy.eval()(IDS).logits)


def test_nothing_finished_is_overwritten(model, tokenizer, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        save_model(model, tokenizer, tmp_path / "model")


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_without_dropout_train_mode_computes_what_eval_mode_does(make_model, architecture):
    model = make_model(architecture)
    disable_dropout(model)
    assert torch.equal(model.train()(IDS).logits, model.eval()(IDS).logits)


def test_an_adapters_own_dropout_is_kept(model):
    policy = add_lora(model, r=2, dropout=0.25)
    disable_dropout(policy)
    rates = dropout_of(policy)
    own = [rate for path, rate in rates.items() if "lora_dropout" in path]
    assert own and set(own) == {0.25}
    assert {rate for path, rate in rates.items() if "lora_dropout" not in path} == {0.0}


# --- bad input -----------------------------------------------------------------------------------


def test_a_tokenizer_of_another_vocabulary_is_refused(make_model, tokenizer):
    tokens = len(tokenizer)
    for rows in (tokens, tokens + 1024):  # vocabularies are padded
        check_vocabulary(make_model(vocab_size=rows), tokenizer)
    for rows in (tokens - 1, tokens + 1025):
        with pytest.raises(ConfigError, match=f"{tokens} tokens and the model embeds {rows}"):
            check_vocabulary(make_model(vocab_size=rows), tokenizer)


def test_a_folder_without_weights_is_refused(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"has no weights \(looked for model"):
        load_model(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["/no/such/model", "./model", "a/b/c"])
def test_a_path_that_does_not_exist_is_refused(name):
    with pytest.raises(ConfigError, match="No model at"):
        check_model_folder(name)


def test_a_hub_id_is_left_to_the_hub():
    assert check_model_folder("facebook/opt-1.3b") is None


# --- 8 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "library", "message"),
    [
        (False, True, r"needs a GPU \(torch finds none\)\. Without, set eight_bit=false"),
        (True, False, r"needs bitsandbytes \(pip install 'unlearning\[eightbit\]'\)\. Without"),
        (False, False, r"needs a GPU \(torch finds none\) and bitsandbytes \(pip install"),
    ],
)
def test_eight_bits_say_what_they_lack(monkeypatch, gpu, library, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if library else None)
    with pytest.raises(ConfigError, match=message):
        check_eight_bit()


def test_eight_bits_are_refused_before_anything_is_loaded(model, tokenizer, tmp_path, monkeypatch):
    folder = save_model(model, tokenizer, tmp_path / "model")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(ConfigError, match="An 8-bit base model needs a GPU"):
        load_model(folder, eight_bit=True)


def test_where_both_are_there_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert check_eight_bit() is None


class CountedTokenizer:
    """So many tokens, the last of which has the largest id."""

    def __init__(self, tokens: int, largest: int | None = None) -> None:
        self.tokens = tokens
        self.largest = tokens - 1 if largest is None else largest

    def __len__(self) -> int:
        return self.tokens

    def get_vocab(self) -> dict[str, int]:
        return {"last": self.largest}


@pytest.mark.parametrize(
    ("rows", "tokens", "largest", "fits"),
    [
        (201_088, 200_019, None, True),  # gpt-oss
        (102_400, 100_015, None, True),  # DeepSeek-V2
        (51_200, 50_295, None, True),  # Phi-2
        (128_256, 50_257, None, False),  # GPT-2's tokenizer on Llama 3
        (201_088, 151_665, None, False),  # Qwen's on gpt-oss
        (50_000, 49_999, 50_000, False),  # an id beyond the embedding, with a gap before it
    ],
)
def test_padded_vocabularies_are_told_from_other_tokenizers(
    monkeypatch, model, rows, tokens, largest, fits
):
    monkeypatch.setattr("unlearning.models.load.embedded_tokens", lambda _: rows)
    found = CountedTokenizer(tokens, largest)
    if fits:
        check_vocabulary(model, found)
        return
    with pytest.raises(ConfigError, match="do not belong together"):
        check_vocabulary(model, found)
