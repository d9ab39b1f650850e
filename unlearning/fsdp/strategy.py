"""Lightning's FSDP strategy, made to give the same results as DDP."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import FSDPPrecision, Precision
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from peft import PeftModel
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP  # noqa: N817
from torch.distributed.fsdp import MixedPrecision
from torch.optim import Optimizer

from unlearning.errors import ConfigError
from unlearning.fsdp.checks import check_module, check_optimizer
from unlearning.fsdp.state import (
    full_state,
    load_optimizer_state,
    load_weights,
    optimizer_state,
    plain_name,
)
from unlearning.fsdp.wrapping import wrap_policy

WEIGHTS, OPTIMIZERS = "state_dict", "optimizer_states"
"""What is whole in a checkpoint, and so rank 0's alone."""


class ShardedPrecision(FSDPPrecision):
    """Mixed precision by autocast over fp32 weights, as under DDP, with clipping by the global
    norm.

    Lightning would cast weights, gradients and buffers to bf16. The residual stream would then be
    rounded after every layer, gradients before they are summed, and rotary positions for good; and
    the KL to a reference that was computed before would no longer begin at 0.
    """

    def __init__(self, precision: Any, strategy: ShardedStrategy) -> None:
        super().__init__(precision)
        self._strategy = strategy

    @property
    def mixed_precision_config(self) -> MixedPrecision | None:  # type: ignore[override]
        return None if self.precision.endswith("mixed") else super().mixed_precision_config

    def forward_context(self) -> AbstractContextManager:
        if self.precision != "bf16-mixed":
            return super().forward_context()
        return torch.autocast(self._strategy.root_device.type, dtype=torch.bfloat16)

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: int | float) -> None:  # type: ignore[override]
        """Clips by the norm over all ranks' shards."""
        self._strategy.root.clip_grad_norm_(clip_val)


class ShardedStrategy(FSDPStrategy):
    """FSDP strategy for an `OptimizedModule`, or another module with a Hugging Face `policy`.

    Against Lightning's strategy: it wraps the layers of any decoder, clips by the norm, keeps
    mixed precision what it is under DDP, runs on CPUs too, and writes checkpoints that a run under
    DDP or in one process can go on from, and the other way round. They go through the Trainer's
    checkpoint plugin; rank 0 alone writes and reads them.

    The optimizer has to work weight by weight, as AdamW and SGD do: what it is shown are parts of
    flattened tensors. One that needs their shape (Adafactor, Muon) would be silently wrong.

    Args:
        sharding_strategy: `FULL_SHARD`, or `SHARD_GRAD_OP`, which keeps weights whole between
            forward and backward: quicker and larger.

    Raises:
        ConfigError: another way to split; at set-up, one device, or what cannot be split: see
            `unlearning.fsdp.check_sharded`.
    """

    def __init__(self, sharding_strategy: str = "FULL_SHARD") -> None:
        if sharding_strategy not in ("FULL_SHARD", "SHARD_GRAD_OP"):
            raise ConfigError(
                f"sharding_strategy={sharding_strategy!r}: choose FULL_SHARD or SHARD_GRAD_OP."
            )
        super().__init__(sharding_strategy=sharding_strategy)  # type: ignore[arg-type]

    @property
    def precision_plugin(self) -> FSDPPrecision:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Precision | None) -> None:
        if plugin is not None and plugin.precision == "16-mixed":
            raise ConfigError(
                "precision=16-mixed scales gradients, which would be clipped before they are "
                "scaled back. With trainer=fsdp take bf16-mixed or 32-true."
            )
        if type(plugin) is FSDPPrecision:  # what the Trainer makes for every FSDP strategy
            plugin = ShardedPrecision(plugin.precision, self)
        FSDPStrategy.precision_plugin.fset(self, plugin)  # type: ignore[attr-defined]

    def setup(self, trainer: Trainer) -> None:
        assert self.lightning_module is not None
        check_module(self.lightning_module, self.world_size)
        super().setup(trainer)

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            check_optimizer(type(optimizer))

    def _setup_model(self, model: nn.Module) -> FSDP:
        """Wraps the model as Lightning does, but also on CPUs, which FSDP has to be told by
        name."""
        policy = getattr(model, "policy", None)
        return FSDP(
            model, sharding_strategy=self.sharding_strategy, device_id=self.root_device,
            auto_wrap_policy=None if policy is None else wrap_policy(policy),
            mixed_precision=self.mixed_precision_config, use_orig_params=True,
        )  # fmt: skip

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns on rank 0 the whole weights by their ordinary names; of an adapter, those
        alone."""
        with full_state(self.root):
            state: dict[str, Any] = self.root.state_dict()
        if isinstance(getattr(self.lightning_module, "policy", None), PeftModel):
            trained = {plain_name(n) for n, p in self.root.named_parameters() if p.requires_grad}
            state = {name: value for name, value in state.items() if name in trained}
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        whole = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return optimizer_state(self.root, whole)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        whole = self._read(self.broadcast(checkpoint_path), weights_only)
        rest = {name: v for name, v in whole.items() if name not in (WEIGHTS, OPTIMIZERS)}
        load_weights(self.root, whole.get(WEIGHTS, {}))
        if self.lightning_module.trainer.state.fn == TrainerFn.FITTING:  # type: ignore[union-attr]
            states = whole.get(OPTIMIZERS, [{}] * len(self.optimizers))
            for optimizer, state in zip(self.optimizers, states, strict=True):
                load_optimizer_state(self.root, optimizer, state)
        return self.broadcast({**rest, WEIGHTS: {}, OPTIMIZERS: []})

    def _read(self, path: str | Path, weights_only: bool | None) -> dict[str, Any]:
        """Reads the checkpoint on rank 0 only: one copy per rank might exceed the host's memory."""
        whole: dict[str, Any] = {}
        failure: Exception | None = None
        if self.global_rank == 0:
            try:
                whole = self.checkpoint_io.load_checkpoint(path, weights_only=weights_only)
            except (ConfigError, OSError) as error:
                failure = error
        failure = self.broadcast(failure)  # else the others would wait for what never comes
        if failure is not None:
            raise failure
        return whole

    @property
    def root(self) -> FSDP:
        """The module in its FSDP wrapper, once it is set up."""
        assert isinstance(self.model, FSDP)
        return self.model
