"""Checks how many devices a run wants, and whether they are there."""

from __future__ import annotations

import os
from typing import Any

import torch
from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.fsdp import check_sharded
from unlearning.fsdp.checks import sharding
from unlearning.run.config.build import build_trainer
from unlearning.run.config.evaluate import EVALUATE
from unlearning.run.config.method import check_method_split


def check_devices(config: DictConfig, world: int = 1) -> int:
    """Returns the number of processes that the run needs: one per device.

    Args:
        world: how many there are; more than one were started by torchrun, SLURM or submitit.

    Raises:
        ConfigError: there are fewer devices, or another number of processes was started.
    """
    _check_there(config.trainer.accelerator)
    if config.task == EVALUATE:
        return _one_process(world)
    devices, nodes = config.trainer.devices, config.trainer.get("num_nodes", 1)
    if config.trainer.accelerator == "cpu":
        _check_cores(devices)
    _check_strategy(config)
    trainer = build_trainer(config, max_steps=1)
    needed = trainer.num_devices * nodes
    check_sharded(config.trainer.strategy, devices=needed)
    if world == 1 and nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: on several machines the processes are started from "
            "outside. Use torchrun, or srun with one task a device."
        )
    if world not in (1, needed):
        raise ConfigError(
            f"{world} processes were started, and trainer.devices={devices} on {nodes} node(s) "
            f"needs {needed}. Set trainer.devices={world // nodes}, or start {needed}."
        )
    return needed


def _check_there(accelerator: str) -> None:
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.accelerator={accelerator}: torch finds no GPU here. Set "
            "trainer.accelerator=cpu, or auto for what there is."
        )


def _one_process(world: int) -> int:
    """An evaluation runs on one device."""
    if world != 1:
        raise ConfigError(
            f"{world} processes were started, and unlearn evaluate runs in one. Start it without "
            "torchrun or srun."
        )
    return 1


def _check_strategy(config: DictConfig) -> None:
    """Checks what a sharding strategy cannot do, in fine-tuning and unlearning."""
    guard, finetune, strategy = config.callbacks.guard, config.finetune, config.trainer.strategy
    check_sharded(
        strategy, config.reference.mode, config.model.lora, config.unlearn.optimizer,
        guard_action=guard.get("action", "stop") if guard else None,
    )  # fmt: skip
    if sharding(strategy) == "fsdp":
        check_method_split(config)
    if finetune is not None and finetune.load is None:
        check_sharded(
            strategy, adapter=finetune.adapter, optimizer=finetune.optimizer,
            eight_bit=finetune.eight_bit,
        )  # fmt: skip


def _check_cores(devices: Any) -> None:
    """Checks that there are as many cores as CPU processes; Lightning takes any number."""
    cores = len(os.sched_getaffinity(0))
    if isinstance(devices, int) and devices > cores:
        raise ConfigError(
            f"trainer.devices={devices}: there are {cores} cores, and each process needs one. Set "
            f"trainer.devices={cores} or less."
        )


def take_device(config: DictConfig) -> None:
    """Makes this rank's GPU the current CUDA device."""
    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return
    # As Lightning reads them: devices may be a number, a list, "0,1", "auto" or -1.
    device = build_trainer(config, max_steps=1).strategy.root_device
    if device.type == "cuda":
        torch.cuda.set_device(device)
