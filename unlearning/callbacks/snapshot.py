"""Copies the trained weights to the host, to restore them later."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlearning.training.master_weights import MasterWeights


class Snapshot:
    """A copy of the trainable weights, and optionally the optimizer's state, in the host's memory.

    Of sharded weights, each rank keeps and restores its own shards.

    Args:
        module: whose weights with `requires_grad` are kept.
        optimizer: its state (the moments, not the learning rate) is kept as well.
        masters: fp32 copies that are trained in the place of the module's weights.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer | None = None,
        masters: MasterWeights | None = None,
    ) -> None:
        self.step, self._masters = 0, masters
        source = module if masters is None else masters
        self._parameters = [p for p in source.parameters() if p.requires_grad]
        self._optimizer = optimizer
        self._state: dict[Any, Any] = {}
        # Allocated once, and pinned for a GPU: a copy is then several times as fast.
        self._weights = [
            torch.empty_like(p, device="cpu", pin_memory=p.is_cuda, requires_grad=False)
            for p in self._parameters
        ]

    def finite(self) -> Tensor:
        """Whether all current weights are finite: a bool scalar on their device."""
        return torch.stack([p.detach().isfinite().all() for p in self._parameters]).all()

    @torch.no_grad()
    def take(self, step: int) -> None:
        """Copies the current weights, those after `step` updates."""
        self.step = step
        for kept, parameter in zip(self._weights, self._parameters, strict=True):
            # No wait needed: whatever changes or reads either of them later is queued behind.
            kept.copy_(parameter, non_blocking=True)
        if self._optimizer is not None:
            self._state = _on_cpu(self._optimizer.state_dict()["state"])

    @torch.no_grad()
    def restore(self) -> None:
        """Restores the copied weights. Learning rates stay as they are now."""
        for kept, parameter in zip(self._weights, self._parameters, strict=True):
            parameter.copy_(kept)
        if self._masters is not None:
            self._masters.round()
        if self._optimizer is not None:
            # A copy: on the CPU the optimizer would go on with our tensors and change them.
            state = {**self._optimizer.state_dict(), "state": copy.deepcopy(self._state)}
            self._optimizer.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Returns the copy of this rank, for a checkpoint that is written at once."""
        if any(kept.is_pinned() for kept in self._weights):
            torch.cuda.synchronize()  # the host is about to read what may be on its way still
        return {"step": self.step, "weights": self._weights, "optimizer": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the copy of a run before a resume."""
        self.step, self._state = state["step"], state["optimizer"]
        for kept, saved in zip(self._weights, state["weights"], strict=True):
            kept.copy_(saved)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return copy.deepcopy(value)
