"""Short runs of a real UnlearningModule, and ones whose losses are written by the test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.module import UnlearningModule


class ScriptedModule(UnlearningModule):
    """Reports what a script says, and trains as ever.

    Args:
        script: metric -> its value in step n (from 1); others are reported as they are.
        loss: step -> what to multiply the loss of that step with.
    """

    def __init__(
        self,
        *args: Any,
        script: Mapping[str, Callable[[int], float]] | None = None,
        loss: Mapping[int, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.script, self.factors = dict(script or {}), dict(loss or {})

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        step = self.trainer.global_step + 1
        total = super().training_step(batch, batch_idx) * self.factors.get(step, 1.0)
        for name, value in self.script.items():
            self.log(name, torch.tensor(value(step)), batch_size=1)
        if step in self.factors:
            self.log("train/total", total.detach(), batch_size=1)
        return total

    def log(self, *args: Any, **settings: Any) -> None:
        """Off the progress bar, for which Lightning reads a value in every batch."""
        usual = {"prog_bar": False, "sync_dist": self.trainer.world_size > 1}
        super().log(*args, **{**settings, **usual})


class Weights(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.after: dict[int, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.after[trainer.global_step] = flat(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.after[trainer.global_step] = flat(pl_module)


class SaveAt(Callback):
    """Saves a checkpoint after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def flat(module: torch.nn.Module) -> Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


@pytest.fixture
def fit(
    quiet_trainer: Callable[..., Trainer],
    make_data: Callable[..., UnlearningDataModule],
    make_model: Callable[..., Any],
) -> Callable[..., tuple[Trainer, ScriptedModule]]:
    """Trains a tiny model; the same one, on the same data, whenever it is called."""

    def run(
        *callbacks: Callback,
        max_steps: int = 8,
        ckpt_path: Any = None,
        module: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> tuple[Trainer, ScriptedModule]:
        usual = {"learning_rate": 1e-3, "schedule": "constant", "lora": None}
        policy = ScriptedModule(make_model(), **{**usual, **(module or {})})
        trainer = quiet_trainer(max_steps=max_steps, callbacks=list(callbacks), **settings)
        torch.manual_seed(7)
        with warnings.catch_warnings():  # Lightning's own use of torch's pytree
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            trainer.fit(policy, make_data(), ckpt_path=ckpt_path)
        return trainer, policy

    return run
