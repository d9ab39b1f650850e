"""`trainer.precision`: what `auto` and `bf16-auto` are on which machine."""

from __future__ import annotations

import pytest
import torch

from unlearning.run.config.build import build_trainer, numerics
from unlearning.run.config.precision import precision

HALF = "trainer.precision=bf16-auto"


@pytest.fixture(params=[True, False], ids=["bf16 instructions", "none"])
def has_bf16(request, monkeypatch) -> bool:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    return bool(request.param)


def test_auto_is_full_on_every_cpu(compose_config, has_bf16):
    config = compose_config("experiment=demo", "trainer.precision=auto", "trainer.accelerator=cpu")
    assert build_trainer(config, max_steps=1).precision == "32-true"


def test_bf16_auto_goes_by_the_cpu(compose_config, has_bf16):
    wanted = "bf16-true" if has_bf16 else "32-true"
    for lora in ("null", "{}"):
        config = compose_config("experiment=harmful", HALF, f"model.lora={lora}")
        assert build_trainer(config, max_steps=1).precision == wanted
        assert numerics(config)["precision"] == wanted  # the key of kept results


ALL_32 = [
    ["model.lora={kind: adalora}"],
    ["finetune=adalora"],
    ["method=sam"],
    ["trainer=fsdp"],
    ["trainer.strategy=deepspeed"],
    ["method._target_=lightning.LightningModule"],
]


@pytest.mark.parametrize("without", ALL_32, ids=" ".join)
def test_where_no_fp32_copies_can_be_kept_it_is_full(compose_config, monkeypatch, without):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert precision(compose_config("experiment=harmful", *without, HALF)) == "32-true"


KEPT = [["trainer=ddp"], ["finetune=lora"], ["method=task_vector"], ["method=rmu"]]


@pytest.mark.parametrize("given", KEPT, ids=" ".join)
def test_what_keeps_copies_computes_in_bf16(compose_config, monkeypatch, given):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert precision(compose_config("experiment=harmful", *given, HALF)) == "bf16-true"


@pytest.mark.parametrize("asked", ["auto", "bf16-auto"])
def test_on_a_gpu_both_are_bf16_mixed(compose_config, monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    config = compose_config("experiment=harmful", f"trainer.precision={asked}")
    assert precision(config) == "bf16-mixed"
    on_cpu = compose_config("experiment=demo", "trainer=cpu", "trainer.precision=auto")
    assert precision(on_cpu) == "32-true"


def test_what_is_asked_for_by_name_is_given(compose_config):
    config = compose_config("experiment=harmful", "trainer.precision=64-true")
    assert precision(config) == "64-true" and precision(config, 32) == "32"
