"""`finetune.load`: somebody's adapter in place of a training, on its own base model only."""

from __future__ import annotations

import os

import pytest
import torch
from conftest import tiny_opt

from unlearning.data import StoryDataModule
from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora, merge_adapter
from unlearning.models.adapter_io import save_adapter
from unlearning.models.decoder import evaluating
from unlearning.models.load import load_model, load_tokenizer
from unlearning.run.output.store import Store
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.tracking.trackers import Tracking

IDS = torch.arange(3, 12)[None]


def logits(model):
    with torch.no_grad(), evaluating(model):
        return model(input_ids=IDS).logits


@pytest.fixture
def adapter(opt_folder, tmp_path):
    """A folder with an adapter that was trained, and what the model says with it."""
    policy = add_lora(load_model(opt_folder), r=2, dropout=0.0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_adapter(policy, tmp_path / "adapter")
    return tmp_path / "adapter", logits(merge_adapter(policy))


def test_it_is_merged_and_kept_by_its_files(compose_config, opt_folder, adapter, tmp_path):
    folder, expected = adapter
    config = compose_config(
        "experiment=copyright", f"finetune.load={folder}", f"model.name_or_path={opt_folder}",
        "data.max_length=64",
    )  # fmt: skip
    store, data = Store(tmp_path / "cache"), {"forget": StoryDataModule()}
    start, facts, kept = finetuned_model(
        config, store, str(opt_folder), data, Tracking(config, tmp_path)
    )
    torch.testing.assert_close(logits(load_model(start)), expected)
    assert not torch.allclose(logits(load_model(opt_folder)), expected, atol=1e-2)
    assert not kept and "steps" not in facts and facts["method"] == "an adapter trained before"
    assert finetuned_model(config, store, str(opt_folder), data, Tracking(config, tmp_path))[2]
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))  # written anew
    assert not finetuned_model(config, store, str(opt_folder), data, Tracking(config, tmp_path))[2]


def test_that_of_another_base_model_is_refused(compose_config, opt_folder, adapter, tmp_path):
    folder, _ = adapter
    tokenizer = load_tokenizer(opt_folder)
    tiny_opt(len(tokenizer), seed=5).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    config = compose_config(
        "experiment=copyright", f"finetune.load={folder}",
        f"model.name_or_path={tmp_path / 'other'}", "data.max_length=64",
    )  # fmt: skip
    store, data = Store(tmp_path / "cache"), {"forget": StoryDataModule()}
    with pytest.raises(ConfigError, match="was trained on another base model"):
        finetuned_model(config, store, str(tmp_path / "other"), data, Tracking(config, tmp_path))
    assert not list((tmp_path / "cache/finetune").glob("*/inputs.json"))
