"""Base class of modules that train a policy: optimizer, schedule, clipping, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision
from lightning.pytorch.utilities.compile import to_uncompiled
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from peft import PeftModel
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from unlearning.errors import ConfigError
from unlearning.head.tied_gradient import TiedGradient
from unlearning.models.adalora import (
    allocate_ranks,
    is_adalora,
    load_rank_state,
    orthogonality,
    plan_ranks,
    rank_state,
)
from unlearning.models.decoder import (
    CausalLM,
    is_eight_bit,
    output_head,
    tied_gradient,
    unwrap,
)
from unlearning.models.parts import decoder_of
from unlearning.training.master_weights import MasterWeights
from unlearning.training.optimizers import build_optimizer, build_schedule
from unlearning.types import Batch

NOISE_SEED = "noise_seed"


class OptimizedModule(LightningModule):
    """LightningModule that trains `policy` by its hyperparameters `optimizer`, `learning_rate`,
    `optimizer_options`, `schedule` and `warmup_steps`; see `unlearning.training.optimizers`.

    Checkpoints of a policy with an adapter hold the adapter alone; the model under it is frozen.

    With `Trainer(precision="bf16-true")` the policy computes in bf16. Its trained weights are kept,
    moved, saved and given back in fp32, all others as they were; see
    `unlearning.training.master_weights`."""

    policy: CausalLM
    masters: MasterWeights | None = None
    _grad_buffer: Tensor | None = None
    _noise_seed: int | None = None
    _resumed_noise: int | None = None

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the decoder in place, as `torch.compile` with these arguments would.

        It is where a step spends its time. The step around it, with a backward inside its forward,
        cannot be traced.
        """
        decoder = decoder_of(unwrap(self.policy))
        decoder.compile(*args, **kwargs)

    def setup(self, stage: str) -> None:
        if self._compiler_ctx is not None:
            to_uncompiled(self)  # else the next Trainer.fit would be refused, too
            raise ConfigError(
                "torch.compile(module) cannot trace a whole training step. Compile what takes the "
                "time, in place, before Trainer.fit: module.compile(...), with its arguments."
            )
        precision = self.trainer.precision
        if stage != "fit" and precision == "bf16-true":
            raise ConfigError(
                f"{stage} with precision=bf16-true would round this module's weights for good. "
                "Take bf16-mixed or 32-true."
            )
        if stage != "fit" or self.masters is not None or precision not in ("bf16-true", "16-true"):
            return
        if precision == "16-true" or type(self.trainer.precision_plugin) is not HalfPrecision:
            strategy = type(self.trainer.strategy).__name__
            raise ConfigError(
                f"precision={precision} with {strategy} would lose most updates to rounding. Take "
                "bf16-mixed or 32-true, or bf16-true with the model whole on every device: there "
                "fp32 copies of the weights are kept."
            )
        if is_adalora(self.policy) or is_eight_bit(self.policy):
            raise ConfigError(
                "precision=bf16-true moves fp32 copies of the weights. AdaLoRA looks at the "
                "gradients of the model's own, and 8 bits cannot be cast. Take kind=lora and "
                "eight_bit=false, or precision=bf16-mixed."
            )
        self.masters = MasterWeights(self.policy, torch.bfloat16)

    def on_fit_start(self) -> None:
        if self.masters is not None:  # the precision plugin has cast all of the module since setup
            self.masters.keep_frequencies()

    def on_fit_end(self) -> None:
        masters, self.masters = self.masters, None
        if masters is not None:
            masters.to_fp32()

    def trained_weights(self) -> list[nn.Parameter]:
        """Returns the weights that the optimizer updates."""
        source = self.policy if self.masters is None else self.masters
        return [p for p in source.parameters() if p.requires_grad]

    def on_train_start(self) -> None:
        drawn: int = self.trainer.strategy.broadcast(torch.initial_seed())
        resumed, self._resumed_noise = self._resumed_noise, None
        self._noise_seed = drawn % 2**64 if resumed is None else resumed

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds the random numbers of a step (dropout) by seed, rank and batch number alone, so
        that a resumed run draws the same ones."""
        if self._noise_seed is not None and isinstance(batch, Batch):
            key = [self._noise_seed, self.trainer.global_rank, batch.index]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        hparams = self.hparams
        optimizer = build_optimizer(
            self.trained_weights(), hparams["optimizer"], hparams["learning_rate"],
            hparams["optimizer_options"],
        )  # fmt: skip
        steps = self.trainer.estimated_stepping_batches
        schedule = build_schedule(optimizer, hparams["schedule"], hparams["warmup_steps"], steps)
        if is_adalora(self.policy):
            plan_ranks(self.policy, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def add_penalty(self, loss: Tensor) -> Tensor:
        """Adds AdaLoRA's orthogonality penalty to the loss, and logs it; other losses are
        unchanged."""
        if not is_adalora(self.policy):
            return loss
        penalty = orthogonality(self.policy)
        self.log("train/orthogonality", penalty.detach(), batch_size=1)
        return loss + penalty

    def log_over_split(self, name: str, mean: Tensor, size: int) -> None:
        """Logs a value as its mean over a whole split.

        Args:
            mean: over a batch.
            size: of how many answers or tokens of the batch.
        """
        world = self.trainer.world_size
        # Lightning averages the sizes over ranks in whole numbers: 18 and 1 would count as 9 each.
        self.log(name, mean, batch_size=size * world, sync_dist=world > 1)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.masters is not None:
            self.masters.round()
        if is_adalora(self.policy):
            allocate_ranks(self.policy, self.trainer.global_step + 1)  # counted after this hook
        self.release_gradients()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.masters is not None:  # before they are clipped
            self.masters.take_gradients()

    def head_memory(self) -> tuple[Tensor | None, TiedGradient | None]:
        """Returns the buffers that a fused loss takes: the last step's gradient of the head to
        reuse, and the `TiedGradient` where embedding and head are one weight."""
        grad_buffer, self._grad_buffer = self._grad_buffer, None
        return grad_buffer, tied_gradient(self.policy)

    def release_gradients(self) -> None:
        """Frees the gradients right after a step: Lightning would keep them through the next
        forward, at its peak."""
        weight = output_head(self.policy).weight
        alone = not (distributed.is_available() and distributed.is_initialized())
        if weight.device.type == "cpu" and alone:
            self._grad_buffer = weight.grad  # else its memory is fetched anew at every step
        self.policy.zero_grad(set_to_none=True)
        if self.masters is not None:
            self.masters.release_gradients()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning refuses to clip under its autocast with a fused optimizer, because fp16
        # gradients are still scaled then. Those of bf16 never are. (Strategies that split the
        # gradients have a precision plugin of their own, which clips by the norm of all parts.)
        by_norm = gradient_clip_algorithm in (None, "norm")
        autocast = isinstance(self.trainer.precision_plugin, MixedPrecision)
        if autocast and self.trainer.precision == "bf16-mixed" and gradient_clip_val and by_norm:
            clip_grad_norm_(self.policy.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        state = super().state_dict(*args, **kwargs)
        if self.masters is not None:
            state |= {f"policy.{n}": m.detach() for n, m in self.masters.masters.items()}
        if isinstance(self.policy, PeftModel):
            trained = self._trained()
            state = {name: value for name, value in state.items() if name in trained}
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        whole = strict and not isinstance(self.policy, PeftModel)
        result = super().load_state_dict(state_dict, strict=whole, assign=assign)
        missing = sorted(self._trained() - set(state_dict))
        if missing or result.unexpected_keys:
            raise ConfigError(
                f"The checkpoint is of another model or adapter: it lacks {missing[:3]} and has "
                f"{result.unexpected_keys[:3]} besides."
            )
        if self.masters is not None:
            self.masters.load({n: state_dict[f"policy.{n}"] for n in self.masters.masters})
        return result._replace(missing_keys=[])  # the frozen weights under an adapter

    def _trained(self) -> set[str]:
        return {f"policy.{n}" for n, p in self.policy.named_parameters() if p.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[NOISE_SEED] = self._noise_seed
        if is_adalora(self.policy):
            checkpoint["adalora"] = rank_state(self.policy)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumed_noise = checkpoint.get(NOISE_SEED)
        if is_adalora(self.policy) and "adalora" in checkpoint:
            load_rank_state(self.policy, checkpoint["adalora"])
