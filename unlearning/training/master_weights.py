"""fp32 master copies of weights that compute in bf16.

A bf16 weight has 8 bits of precision: at a learning rate of 2e-6 most updates are smaller than
half of its last bit and are lost. So the optimizer moves an fp32 copy, and the model's weight is
that copy, rounded. Forward, backward and gradients stay in bf16.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MasterWeights:
    """Keeps the trainable weights of a module in fp32, and casts the module's own to `dtype`.

    Args:
        module: cast in place, frozen weights included; its weights have to be in fp32, so that no
            bit is lost.
        dtype: that the module computes in.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.masters = {
            name: nn.Parameter(p.detach().float().clone()) for name, p in trained.items()
        }
        module.to(dtype)
        self._module = (module,)  # in a tuple: whoever holds this is not its parent

    def parameters(self) -> Iterator[nn.Parameter]:
        """Returns the master weights, for the optimizer."""
        return iter(self.masters.values())

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        parameters = dict(self._module[0].named_parameters())
        for name, master in self.masters.items():
            if master.device != parameters[name].device:
                master.data = master.data.to(parameters[name].device)
            yield master, parameters[name]

    def take_gradients(self) -> None:
        """Moves the module's gradients to the masters, one at a time, so that never all exist
        twice."""
        for master, parameter in self._pairs():
            if parameter.grad is not None:
                master.grad = parameter.grad.float()
                parameter.grad = None

    def release_gradients(self) -> None:
        for master in self.masters.values():
            master.grad = None

    @torch.no_grad()
    def round(self) -> None:
        """Rounds the masters' values into the module's weights."""
        for master, parameter in self._pairs():
            parameter.copy_(master)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Loads the masters, and with them the module's weights, from a state dict."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
        self.round()

    @torch.no_grad()
    def to_fp32(self) -> nn.Module:
        """Turns the module's weights into the fp32 masters, after training."""
        module = self._module[0].float()
        self.round()
        return module
