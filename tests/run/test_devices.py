"""Processes that a run asks for, against what is there."""

from __future__ import annotations

import os

import pytest
import torch
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.checks.devices import check_devices, take_device
from unlearning.run.config import build

CORES = len(os.sched_getaffinity(0))


def test_one_process_a_device(compose_config):
    assert check_devices(compose_config("experiment=demo")) == 1
    if CORES >= 2:
        assert check_devices(compose_config("experiment=demo", "trainer.devices=2")) == 2


def test_more_than_there_are(compose_config):
    config = compose_config("experiment=demo", f"trainer.devices={CORES + 1}")
    with pytest.raises(ConfigError, match=f"there are {CORES} cores.*trainer.devices={CORES}"):
        check_devices(config)


def test_more_gpus_than_there_are(compose_config):
    config = compose_config("experiment=demo", "trainer.accelerator=gpu", "trainer.devices=64")
    with pytest.raises(ConfigError, match=r"trainer cannot be made|torch finds no GPU"):
        check_devices(config)


def test_another_number_of_processes_was_started(compose_config):
    config = compose_config("experiment=demo")
    with pytest.raises(ConfigError, match=r"4 processes were started.*trainer\.devices=4"):
        check_devices(config, world=4)


def test_several_machines_are_started_from_outside(compose_config):
    config = compose_config("experiment=demo", "+trainer.num_nodes=2")
    with pytest.raises(ConfigError, match="torchrun"):
        check_devices(config)


NOT_CACHED = "with the reference's, and those are not cached"
ADAPTER = r"\. Either train an adapter \(model.lora=\{\}\), or take trainer=ddp"
OF_BASE = ["finetune=tiny", "reference.of=base"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=gru"], "step rule GRU needs every weight whole.*trainer=ddp"),
        (["method=sam"], "step rule SAM needs every weight whole.*trainer=ddp"),
        (["method=on_policy"], "sampled by the whole policy.*trainer=ddp"),
        (["method=loku"], "LoKU takes a part out of the weights.*trainer=ddp"),
        (["method=pdu"], "PDU measures the loss before.*method.epsilon.*trainer=ddp"),
        (["method=rmu"], f"hidden states of inner layers {NOT_CACHED}{ADAPTER}"),
        (["method=rerouting"], f"hidden states of inner layers {NOT_CACHED}{ADAPTER}"),
        (["method=kto"], f"mismatch answers {NOT_CACHED}{ADAPTER}"),
        (["method=idk_dpo"], f"alternate answers {NOT_CACHED}{ADAPTER}"),
        ([*OF_BASE, "method=rmu", "model.lora={}"], f"{NOT_CACHED}.*Either take reference.of=fin"),
        ([*OF_BASE, "method=kto"], rf"{NOT_CACHED}.*lora=\{{\}}\) and take reference.of=finetuned"),
    ],
)
def test_a_method_that_cannot_be_split_is_refused_before_anything(compose_config, words, message):
    with pytest.raises(ConfigError, match=message):
        check_devices(compose_config("experiment=demo", *words, "trainer=fsdp"))


def test_other_methods_can_be_split(compose_config):
    taken = [["method=pdu", "method.epsilon=3"], ["method=jensun"], ["method=task_vector"]]
    taken += [[f"method={name}", "model.lora={}"] for name in ("rmu", "rerouting", "kto")]
    taken += [["method=rmu", "model.lora={}", "reference.of=base"]]  # of no fine-tuning
    for words in [*taken, ["method=dpo", "+data/alternate=refusals", "model.lora={}"]]:
        config = compose_config("experiment=demo", *words, "trainer=fsdp", "trainer.devices=2")
        assert check_devices(config) == 2
    for words in (["method=gru"], ["method=loku"], ["method=pdu"]):
        check_devices(compose_config("experiment=demo", *words, "trainer=ddp"))


def test_a_rank_takes_the_gpu_that_lightning_takes(compose_config, monkeypatch):
    """`devices` may be a list, or words like "2,3": its own reading decides."""
    taken = []

    class Trainer:
        def __init__(self, **_):
            self.strategy = self
            self.root_device = torch.device("cuda", 3)

    monkeypatch.setattr(build, "Trainer", Trainer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    take_device(compose_config("experiment=demo", "trainer.accelerator=gpu", "trainer.devices=[3]"))
    take_device(compose_config("experiment=demo", "trainer.accelerator=cpu"))
    assert taken == [torch.device("cuda", 3)]


@pytest.mark.parametrize(
    ("devices", "one"), [("2,3", [2]), ([2, 3], [2]), ("auto", 1), (-1, 1), (4, 1)]
)
def test_what_rank_0_does_alone_is_done_on_its_own_device(compose_config, devices, one):
    config = compose_config("experiment=demo")
    OmegaConf.update(config, "trainer.devices", devices)
    assert build.trainer_options(config, alone=True)["devices"] == one


def test_a_gpu_that_is_not_there_is_named(compose_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for words in (["task=unlearn"], ["task=evaluate"]):
        config = compose_config("experiment=demo", "trainer.accelerator=gpu", *words)
        with pytest.raises(ConfigError, match=r"accelerator=gpu: torch finds no GPU here\. Set"):
            check_devices(config)
