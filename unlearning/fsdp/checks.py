"""Checks what cannot be sharded over ranks, before anything is loaded or trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from lightning import LightningModule
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)
from torch.optim import Optimizer

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.models.adalora import is_adalora
from unlearning.models.decoder import is_eight_bit

Kind = Literal["whole", "fsdp", "deepspeed"]
OURS = "unlearning.fsdp.ShardedStrategy"


def check_sharded(
    strategy: Any,
    reference: str = "auto",
    adapter: Mapping[str, Any] | None = None,
    optimizer: str = "adamw",
    eight_bit: bool = False,
    guard_action: str | None = None,
    devices: int | None = None,
) -> None:
    """Checks that a Trainer's strategy can serve the settings; DDP and a single process can serve
    all.

    Args:
        strategy: a strategy, its name, or a mapping with its `_target_`.
        reference: the mode of the reference.
        adapter: arguments of `add_adapter`; None trains every weight.
        optimizer: see `unlearning.training.optimizers`.
        eight_bit: the model under the adapter is in 8 bits.
        guard_action: of a `CollapseGuard`; None where there is none.
        devices: how many the run has, over all machines; None where that is not known yet.

    Raises:
        ConfigError: what cannot be, why, and what can.
    """
    kind = sharding(strategy)
    if kind == "whole":
        return
    if kind == "deepspeed":
        _check_deepspeed(strategy, guard_action)
    elif devices == 1:
        raise ConfigError(
            "trainer=fsdp splits a model over devices, and this run has one. Set trainer.devices "
            "to 2 or more, or take trainer=default."
        )
    if reference == "copy":
        raise ConfigError(
            "reference=copy keeps a second model whole on every device, which is what splitting "
            "the first one avoids. Take reference=cached, or adapter_off with LoRA."
        )
    if (adapter or {}).get("kind") == "adalora":
        raise ConfigError(
            "AdaLoRA looks at whole weights and gradients when it allocates ranks, and here each "
            "device has a part of them. Take kind=lora, or trainer=ddp."
        )
    if eight_bit:
        raise ConfigError(
            "Weights in 8 bits cannot be split over devices. Take eight_bit=false, or trainer=ddp."
        )
    if optimizer.rpartition(".")[2].lower() in ("adamw_8bit", "adamw8bit"):
        raise ConfigError(
            "optimizer=adamw_8bit keeps its state in blocks that cannot be put together from "
            "parts. Take adamw, whose state is split over the devices here."
        )


def sharding(strategy: Any) -> Kind:
    """Returns how a strategy keeps the model.

    Raises:
        ConfigError: in a way that the losses here do not work with.
    """
    if isinstance(strategy, str):
        found: Kind = "whole"
        if strategy.startswith(("fsdp", "model_parallel")):
            raise ConfigError(
                f"strategy={strategy} is Lightning's own, which does not know where this model "
                f"can be split. Take trainer=fsdp (strategy: {{_target_: {OURS}}})."
            )
        if strategy.startswith("deepspeed"):
            found = "deepspeed"
        return found
    if isinstance(strategy, Mapping):
        target = import_object(str(strategy.get("_target_")))
        owner = target if isinstance(target, type) else type(target)
    else:
        owner = type(strategy)
    if not issubclass(owner, Strategy):
        raise ConfigError(f"strategy: {owner.__name__} is no strategy of Lightning's.")
    if issubclass(owner, ModelParallelStrategy) or owner is FSDPStrategy:
        return sharding("fsdp" if owner is FSDPStrategy else "model_parallel")
    if issubclass(owner, FSDPStrategy):
        return "fsdp"
    return "deepspeed" if issubclass(owner, DeepSpeedStrategy) else "whole"


def is_sharded(strategy: Strategy) -> bool:
    """Whether each rank holds only a part of the weights outside of a training step."""
    return isinstance(strategy, FSDPStrategy)


def check_module(module: LightningModule, devices: int) -> None:
    """Runs `check_sharded` for an existing module.

    Raises:
        ConfigError: its policy cannot be split, or has no second device to be split over.
    """
    policy = getattr(module, "policy", None)
    adapter = {"kind": "adalora"} if policy is not None and is_adalora(policy) else None
    eight_bit = policy is not None and is_eight_bit(policy)
    check_sharded({"_target_": OURS}, adapter=adapter, eight_bit=eight_bit, devices=devices)


def check_optimizer(optimizer: type[Optimizer]) -> None:
    """Runs `check_sharded` for an existing optimizer.

    Raises:
        ConfigError: its state cannot be split.
    """
    check_sharded({"_target_": OURS}, optimizer=optimizer.__name__)


def _check_deepspeed(strategy: Any, guard_action: str | None) -> None:
    if isinstance(strategy, str):
        stage = 3 if "stage_3" in strategy else 1 if "stage_1" in strategy else 2
    elif isinstance(strategy, Mapping):
        stage = int(strategy.get("stage", 2))
    else:
        stage = int(strategy.config["zero_optimization"]["stage"])
    if stage > 2:
        raise ConfigError(
            f"DeepSpeed stage {stage} splits the weights themselves, and the losses use the "
            "output head's without calling it. Take stage 2, or trainer=fsdp."
        )
    if guard_action == "lower":
        raise ConfigError(
            "callbacks.guard.action=lower puts weights back and trains on, and DeepSpeed would "
            "train on from its own copy of those before. Take action=stop, or trainer=fsdp."
        )
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "trainer=deepspeed needs DeepSpeed: pip install deepspeed. Without it, trainer=fsdp "
            "splits the same things."
        )
