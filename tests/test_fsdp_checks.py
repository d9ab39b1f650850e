"""What cannot be split is refused by name, before anything is loaded."""

from __future__ import annotations

import importlib.util
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    SingleDeviceStrategy,
)
from torch import nn

from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.fsdp import ShardedStrategy, check_sharded, gathered, is_sharded, whole_policy
from unlearning.fsdp.checks import check_module, check_optimizer
from unlearning.fsdp.strategy import ShardedPrecision
from unlearning.fsdp.wrapping import decoder_layers, wrap_policy
from unlearning.module import UnlearningModule

CONF = Path(__file__).resolve().parents[1] / "conf"
OURS = {"_target_": "unlearning.fsdp.ShardedStrategy"}
DDP, THEIRS, SECOND, ZERO = (
    {"_target_": f"lightning.pytorch.strategies.{name}Strategy"}
    for name in ("DDP", "FSDP", "ModelParallel", "DeepSpeed")
)
EVERYTHING = {
    "reference": "copy", "adapter": {"kind": "adalora"}, "optimizer": "adamw_8bit",
    "eight_bit": True, "guard_action": "lower", "devices": 1,
}  # fmt: skip


@pytest.fixture
def deepspeed_is_there(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: n == "deepspeed" or find(n))


@pytest.mark.parametrize(
    "strategy",
    ["auto", "ddp", "ddp_find_unused_parameters_true", DDPStrategy(), SingleDeviceStrategy(), DDP],
)
def test_everything_goes_where_each_rank_has_the_whole_model(strategy):
    check_sharded(strategy, **EVERYTHING)


@pytest.mark.parametrize("strategy", [OURS, ShardedStrategy()])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reference": "copy"}, "Take reference=cached, or adapter_off with LoRA"),
        ({"adapter": {"kind": "adalora", "r": 4}}, "Take kind=lora, or trainer=ddp"),
        ({"eight_bit": True}, "eight_bit=false"),
        ({"optimizer": "adamw_8bit"}, "Take adamw"),
        ({"optimizer": "bitsandbytes.optim.AdamW8bit"}, "Take adamw"),
        ({"devices": 1}, "trainer.devices to 2 or more"),
    ],
)
def test_fsdp_refuses_and_names_what_works(strategy, settings, said):
    with pytest.raises(ConfigError, match=said):
        check_sharded(strategy, **settings)


def test_fsdp_takes_the_rest():
    for reference in ("auto", "cached", "adapter_off"):
        check_sharded(OURS, reference, {"r": 4}, "adamw", guard_action="lower", devices=2)
    assert is_sharded(ShardedStrategy()) and not is_sharded(DDPStrategy())


@pytest.mark.parametrize(
    "strategy", ["fsdp", "fsdp_cpu_offload", "model_parallel", FSDPStrategy(), THEIRS, SECOND]
)
def test_lightnings_own_is_refused_for_ours(strategy):
    with pytest.raises(ConfigError, match=r"trainer=fsdp.*unlearning.fsdp.ShardedStrategy"):
        check_sharded(strategy)


def test_what_is_no_strategy_is_refused():
    with pytest.raises(ConfigError, match="Linear is no strategy"):
        check_sharded({"_target_": "torch.nn.Linear"})
    with pytest.raises(ConfigError, match="choose FULL_SHARD or SHARD_GRAD_OP"):
        ShardedStrategy("HYBRID_SHARD")


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is not None, reason="it is there")
@pytest.mark.parametrize("strategy", ["deepspeed", "deepspeed_stage_2", {**ZERO, "stage": 2}])
def test_deepspeed_has_to_be_installed(strategy):
    with pytest.raises(ConfigError, match="pip install deepspeed"):
        check_sharded(strategy)


@pytest.mark.usefixtures("deepspeed_is_there")
@pytest.mark.parametrize("name", ["deepspeed_stage_3", "deepspeed_stage_3_offload"])
def test_deepspeed_splits_no_weights(name):
    for strategy in (name, {**ZERO, "stage": 3}):
        with pytest.raises(ConfigError, match="Take stage 2, or trainer=fsdp"):
            check_sharded(strategy)
    check_sharded({**ZERO, "stage": 2}, "cached", guard_action="stop")
    with pytest.raises(ConfigError, match="action=stop, or trainer=fsdp"):
        check_sharded({**ZERO, "stage": 2}, guard_action="lower")
    with pytest.raises(ConfigError, match="reference=cached"):
        check_sharded("deepspeed_stage_2", "copy")


def test_the_trainers_compose():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["experiment=demo", "trainer=fsdp", "trainer.devices=2"])
        assert isinstance(instantiate(config.trainer.strategy), ShardedStrategy)
        check_sharded(config.trainer.strategy, devices=config.trainer.devices)
        config = compose("config", ["experiment=demo", "trainer=deepspeed"])
    assert config.trainer.accelerator == "gpu" and config.trainer.strategy.stage == 2
    # Every key is one that Lightning's strategy takes, though it cannot be made here.
    given = yaml.safe_load((CONF / "trainer" / "deepspeed.yaml").read_text())["strategy"]
    assert given.keys() - {"_target_"} <= signature(DeepSpeedStrategy).parameters.keys()


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_each_layer_is_a_unit_and_each_factor_of_an_adapter(make_model, architecture):
    module = UnlearningModule(make_model(architecture), lora={"r": 2})
    layers = decoder_layers(module.policy)
    assert len(layers) == 2 and len({type(layer) for layer in layers}) == 1
    wrap = wrap_policy(module.policy)
    apart = [m for m in module.modules() if wrap(m, False, 0)]
    factors = [m for n, m in module.named_modules() if n.endswith(".default") and "lora_" in n
               and list(m.parameters())]  # fmt: skip
    assert set(apart) == {*layers, *factors} and factors
    # No unit has both trained and frozen weights: those of the layers are what is left of them.
    inside = {id(p) for factor in factors for p in factor.parameters()}
    for layer in layers:
        assert not any(p.requires_grad for p in layer.parameters() if id(p) not in inside)
    whole = UnlearningModule(make_model(architecture))
    assert {m for m in whole.modules() if wrap_policy(whole.policy)(m, False, 0)} == set(
        decoder_layers(whole.policy)
    )


def test_experts_are_no_layers():
    """The longest list of modules may lie within a layer; the one with most weights does not."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(2))

        def get_decoder(self):
            return self

    model = Model()
    assert decoder_layers(model) == list(model.layers)


def test_one_device_is_refused_by_the_trainer_too(make_model, make_data, quiet_trainer):
    trainer = quiet_trainer(strategy=ShardedStrategy(), max_steps=1)
    with pytest.raises(ConfigError, match="this run has one"):
        trainer.fit(UnlearningModule(make_model()), make_data())
    torch.distributed.destroy_process_group()


def test_mixed_precision_is_autocast():
    strategy = ShardedStrategy()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=strategy, precision="bf16-mixed", logger=False,
        enable_checkpointing=False,
    )  # fmt: skip
    plugin = trainer.precision_plugin
    assert isinstance(plugin, ShardedPrecision) and plugin is strategy.precision_plugin
    assert plugin.precision == trainer.precision == "bf16-mixed"
    assert plugin.mixed_precision_config is None and strategy.mixed_precision_config is None
    with plugin.forward_context():
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_where_nothing_is_split_the_policy_is_the_policy(make_model, make_data, quiet_trainer):
    module, trainer = UnlearningModule(make_model()), quiet_trainer(max_steps=1)
    trainer.fit(module, make_data())
    with gathered(trainer, module) as policy:
        assert policy is module.policy
    assert whole_policy(trainer, module) is module.policy


@pytest.mark.parametrize("module", [UnlearningModule, CausalLMModule])
def test_optimizers_that_cannot_be_split_are_refused_at_setup(make_model, module):
    class AdamW8bit(torch.optim.AdamW):
        pass

    with pytest.raises(ConfigError, match="Take adamw"):
        check_optimizer(AdamW8bit)
    check_optimizer(torch.optim.AdamW)
    with pytest.raises(ConfigError, match="kind=lora"):
        check_module(module(make_model(), lora={"kind": "adalora", "r": 2}), 2)
    check_module(module(make_model(), lora={"r": 2}), 2)
