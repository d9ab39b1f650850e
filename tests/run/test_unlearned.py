"""A run that goes on after its unlearning finds the very model it left."""

from __future__ import annotations

import json

import torch
from conftest import tiny_opt

from unlearning.models.adapter import add_lora
from unlearning.models.decoder import evaluating
from unlearning.models.load import load_model, load_tokenizer
from unlearning.run.stages.unlearned import Unlearned, find_unlearned, is_unlearned, keep_unlearned

IDS = torch.arange(3, 12)[None]


def logits(model):
    with torch.no_grad(), evaluating(model):
        return model(input_ids=IDS).logits


def test_an_adapter_comes_back_on_the_model_of_the_run(compose_config, opt_folder, tmp_path):
    """Its record names the base by a name alone, which may stand for another revision by now."""
    config = compose_config(
        "experiment=harmful", f"model.name_or_path={opt_folder}", "model.lora={}",
        "data.max_length=64",
    )  # fmt: skip
    assert not is_unlearned(tmp_path)
    tokenizer = load_tokenizer(opt_folder)
    policy = add_lora(load_model(opt_folder), dropout=0.0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    left = Unlearned(policy, tokenizer, 3, "why", ["note"], "Cached")
    keep_unlearned(config, tmp_path, left)
    assert is_unlearned(tmp_path)

    tiny_opt(len(tokenizer), seed=9).save_pretrained(tmp_path / "other")
    record = tmp_path / "model/adapter_config.json"
    named = {**json.loads(record.read_text()), "base_model_name_or_path": str(tmp_path / "other")}
    record.write_text(json.dumps(named))

    found = find_unlearned(config, tmp_path, str(opt_folder))
    torch.testing.assert_close(logits(found.policy), logits(policy))
    assert (found.steps, found.stop_reason, found.notes) == (3, "why", ["note"])


def test_a_whole_model_comes_back(compose_config, opt_folder, tmp_path):
    config = compose_config("experiment=harmful", f"model.name_or_path={opt_folder}")
    policy = load_model(opt_folder)
    with torch.no_grad():
        policy.get_input_embeddings().weight.add_(0.1)
    keep_unlearned(config, tmp_path, Unlearned(policy, load_tokenizer(opt_folder), 1, None, [], ""))
    found = find_unlearned(config, tmp_path, str(opt_folder))
    torch.testing.assert_close(logits(found.policy), logits(policy))
