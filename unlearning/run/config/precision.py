"""Resolves `trainer.precision`, whose `auto` and `bf16-auto` depend on the machine."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from unlearning.run.config.method import edits_weights, method_class
from unlearning.training.base import OptimizedModule
from unlearning.training.step_rule import make_rule

AUTO, BF16_AUTO = "auto", "bf16-auto"
WHOLE = ("auto", "ddp", "DDPStrategy", "SingleDeviceStrategy")
"""Strategies by name or class that keep the model whole on every device."""


def precision(config: DictConfig, asked: Any = None) -> str:
    """Returns the precision that Lightning's Trainer is given.

    On a GPU that has bf16, `auto` and `bf16-auto` are both `bf16-mixed`. On a CPU `auto` is
    `32-true`, so that a run has the same figures on all of them; `bf16-auto` is `bf16-true` where
    the CPU multiplies bf16 in hardware and the run can keep fp32 copies of its weights.

    Args:
        asked: what is asked for; None: `trainer.precision`.
    """
    asked = str(config.trainer.precision if asked is None else asked)
    if asked not in (AUTO, BF16_AUTO):
        return asked
    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    half = asked == BF16_AUTO and cpu_multiplies_bf16() and keeps_masters(config)
    return "bf16-true" if half else "32-true"


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16 products, which take longer than fp32 without."""
    return bool(torch.cpu._is_avx512_bf16_supported())  # CPUs with AMX have it, too


def keeps_masters(config: DictConfig) -> bool:
    """Whether all trainings of a run can keep fp32 copies beside weights in bf16.

    AdaLoRA, split weights, a module of one's own and a rule that moves weights by less than bf16
    can tell apart cannot. `OptimizedModule.setup` and `StepRule.check_strategy` refuse these.
    """
    finetune, strategy = config.get("finetune"), config.trainer.strategy
    adapters = [config.model.get("lora"), finetune.adapter if finetune else None]
    if any(adapter and adapter.get("kind") == "adalora" for adapter in adapters):
        return False
    name = strategy if isinstance(strategy, str) else strategy["_target_"].rpartition(".")[2]
    if name not in WHOLE:
        return False
    if config.get("method") is None:  # an evaluation trains a classifier at most
        return True
    if not (edits_weights(config) or issubclass(method_class(config), OptimizedModule)):
        return False
    rule = make_rule(config.method.get("rule"))
    return rule is None or not rule.moves_weights


def evaluation_dtype(config: DictConfig) -> torch.dtype:
    """Returns the dtype that models answer and score in, from `evaluation.precision`."""
    asked = config.evaluation.get("precision", "32-true")  # absent in versions before 0.7
    if asked == BF16_AUTO:
        on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
        half = torch.cuda.is_bf16_supported() if on_gpu else cpu_multiplies_bf16()
        return torch.bfloat16 if half else torch.float32
    return torch.bfloat16 if asked == "bf16-true" else torch.float32
