"""Local models, classifiers and adapters that cannot be used are refused before any work."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import tiny_opt
from safetensors.torch import load_file, save_file

from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora
from unlearning.models.adapter_io import save_adapter
from unlearning.models.load import load_model
from unlearning.run.config.evaluate import evaluation_config

from .small import checked

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(opt_folder, tmp_path):
    return shutil.copytree(opt_folder, tmp_path / "model")


@pytest.fixture
def check(compose_config, folder):
    def validated(*overrides: str):
        common = ["model=local", f"model.name_or_path={folder}", "data.max_length=120"]
        return checked(compose_config("experiment=demo", *common, *overrides))

    return validated


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def leave_out(folder, part):
    weights = load_file(folder / WEIGHTS)
    kept = {name: w for name, w in weights.items() if part not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def with_code(folder):
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "x", "auto_map": code}))
    (folder / "own.py").write_text(f"open({str(folder / 'mark')!r}, 'w').write('run')")


def grown_tokenizer(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{n}>" for n in range(9)])
    tokenizer.save_pretrained(folder)


def without_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model":', encoding="utf-8")


CASES = [
    (lambda folder: cut(folder / WEIGHTS), rf"{WEIGHTS} \(\d+ bytes\) is cut short or damaged"),
    (lambda folder: leave_out(folder, "fc1"), r"lack 4 of its .*layers\.0\.fc1\.bias"),
    (with_code, "comes with Python code of its own"),
    (without_tokenizer, "holds no tokenizer. Save the model's there, or name one: model.tokenizer"),
    (grown_tokenizer, r"tokens and the model embeds \d+: they do not belong together"),
    (broken_tokenizer, "The tokenizer .* cannot be loaded"),
]


@pytest.mark.parametrize(("damage", "message"), CASES)
def test_a_model_folder(check, folder, damage, message):
    damage(folder)
    with pytest.raises(ConfigError, match=rf"^model\.name_or_path={folder}(, tok.*)?: .*{message}"):
        check()
    assert not (folder / "mark").exists()


def test_a_whole_folder_passes_and_no_weight_is_read(check, folder, monkeypatch):
    monkeypatch.setattr("unlearning.models.load.load_model", None)
    assert f"model: {folder}" in check()


def test_a_tokenizer_elsewhere_is_looked_at_instead(check, folder, opt_folder):
    without_tokenizer(folder)
    assert check(f"model.tokenizer={opt_folder}")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        check(f"model.tokenizer={folder}")


def test_a_classifier_folder(check, bert_folder, tmp_path):
    judge = shutil.copytree(bert_folder, tmp_path / "judge")
    options = ["classifier=pretrained", f"classifier.model={judge}"]
    assert check(*options)
    leave_out(judge, "classifier")
    with pytest.raises(ConfigError, match=r"classifier .* lack 2 of .*They are its head"):
        check(*options)
    cut(judge / WEIGHTS)
    with pytest.raises(ConfigError, match="is cut short or damaged"):
        check(*options)


def test_an_adapter_folder(check, folder, tmp_path):
    adapter = save_adapter(add_lora(load_model(folder), r=2), tmp_path / "adapter")
    options = ["finetune=lora", f"finetune.load={adapter}"]
    assert check(*options)
    cut(adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors .* is cut short or damaged"):
        check(*options)


def test_an_oracle_and_a_model_to_evaluate(check, compose_config, folder, tmp_path):
    other = tmp_path / "other"
    tiny_opt(96).save_pretrained(other)
    with pytest.raises(ConfigError, match=rf"^oracle={other}: .* holds no tokenizer"):
        check("finetune=lora", f"oracle={other}", "model.tokenizer=null")
    evaluated = ["task=evaluate", "model=local", f"model.name_or_path={folder}"]
    evaluated += ["data.max_length=120", f"compare_with={other}"]
    with pytest.raises(ConfigError, match=rf"^compare_with={other}: .* holds no tokenizer"):
        checked(evaluation_config(compose_config("experiment=demo", *evaluated)))
    cut(other / WEIGHTS)
    with pytest.raises(ConfigError, match=rf"^compare_with={other}: .*is cut short"):
        checked(evaluation_config(compose_config("experiment=demo", *evaluated)))
