"""What a model's layers and context do not allow is found before a weight is loaded."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.checks.architecture import check_architecture

DEMO = "experiment=copyright_demo"
LAYERS = "fc1, fc2, k_proj, out_proj, q_proj, v_proj"


def check(config, changes=(), **settings):
    for key, value in changes:
        OmegaConf.update(config, key, value, force_add=True)
    check_architecture(config, **settings)


WRONG = [
    ([("finetune.adapter.target_modules", ["query"])], f"finetune.adapter: .*'query'.*{LAYERS}"),
    ([("model.lora.target_modules", ["q_proj", "qq"])], f"model.lora: .*'qq'.*{LAYERS}"),
    ([("data.max_length", 4000)], "data.max_length=4000 is above the model's context"),
    ([("finetune.context_length", 4000)], "finetune.context_length=4000 is above"),
    ([("model.lora.kind", "adalora"), ("unlearn.max_steps", 2)], "model.lora: AdaLoRA allocates"),
    ([("finetune.adapter.kind", "adalora"), ("finetune.max_steps", 2)], "finetune.adapter: Ada"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_model_that_is_trained_on_the_spot(compose_config, changes, message):
    check(compose_config(DEMO))
    with pytest.raises(ConfigError, match=message):
        check(compose_config(DEMO), changes)


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_local_folder(compose_config, opt_folder, changes, message):
    common = [DEMO, "model=local", f"model.name_or_path={opt_folder}", "model.base=null"]
    common += ["data.max_length=64", "finetune.context_length=64"]
    check(compose_config(*common))
    with pytest.raises(ConfigError, match=message):
        check(compose_config(*common), changes)


def test_nothing_is_asked_of_an_adapter_that_is_loaded_or_absent(compose_config):
    wrong = [("finetune.adapter.target_modules", ["query"]), ("finetune.context_length", 4000)]
    check(compose_config(DEMO), [*wrong, ("finetune.load", "x"), ("model.lora", None)])
    check(compose_config(DEMO), [("finetune.adapter", None)])


def test_no_weight_is_made_and_no_random_number_drawn_for_the_models(compose_config, monkeypatch):
    devices = []
    original = torch.nn.Linear.__init__

    def spy(self, *args, **settings):
        original(self, *args, **settings)
        devices.append(self.weight.device.type)

    monkeypatch.setattr(torch.nn.Linear, "__init__", spy)
    check(compose_config(DEMO, "model.lora=null", "finetune.adapter=null"))
    assert set(devices) == {"meta"}


def test_a_hub_id_waits_until_the_run(compose_config, monkeypatch):
    config = compose_config("experiment=harmful", "model.name_or_path=owner/none")
    check(config)

    def absent(*args, **settings):
        raise OSError("owner/none is not on the hub.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", absent)
    with pytest.raises(ConfigError, match=r"owner/none: .* cannot be loaded: .* not on the hub"):
        check(config, online=True)


def test_a_revision_is_looked_up_as_it_will_be_loaded(compose_config, opt_folder, monkeypatch):
    from transformers import AutoConfig

    config = compose_config("experiment=harmful", "model.revision=abc", "data.max_length=64")
    found, asked = AutoConfig.from_pretrained(opt_folder), {}

    def remote(name, **settings):
        asked[name] = settings
        return found

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", remote)
    check(config, online=True)
    assert asked == {"facebook/opt-1.3b": {"revision": "abc", "trust_remote_code": False}}


def test_a_model_that_generates_no_text(compose_config, tmp_path):
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    config = compose_config(
        DEMO, "model=local", f"model.name_or_path={tmp_path}", "model.base=null"
    )
    with pytest.raises(ConfigError, match="a 't5' model is no causal language model"):
        check(config)
