"""fp32 master copies of weights that compute in bf16.

A bf16 weight has 8 bits of precision: at a learning rate of 2e-6 most updates are smaller than
half of its last bit and are lost. So the optimizer moves an fp32 copy, and the model's weight is
that copy, rounded. Forward, backward and gradients stay in bf16.

What is not trained comes back as it was, bit for bit: an adapter is then on the base model that it
is said to be on, and no rounding counts for a change of the model's answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

IN_FP32 = "inv_freq"
"""End of the names of rotary frequencies. Models compute angles from them in fp32 in any precision:
rounded to bf16, an angle is off by up to a radian at position 300."""


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
        self._low = {
            name: halve_(p)
            for name, p in module.named_parameters()
            if not p.requires_grad and p.dtype == torch.float32 and dtype == torch.bfloat16
        }
        self._buffers = {n: b for n, b in module.named_buffers() if b.is_floating_point()}
        module.to(dtype)
        self._module = (module,)  # in a tuple: whoever holds this is not its parent
        self.keep_frequencies()

    def keep_frequencies(self) -> None:
        """Puts the fp32 frequencies back, after the module was cast."""
        self._put_buffers({n: b for n, b in self._buffers.items() if n.endswith(IN_FP32)})

    def _put_buffers(self, buffers: dict[str, Tensor]) -> None:
        for path, value in buffers.items():
            owner, _, name = path.rpartition(".")
            where = self._module[0].get_submodule(owner)
            setattr(where, name, value.to(getattr(where, name).device))

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
        """Turns the module's weights into the fp32 masters, after training, and all others and the
        buffers into what they were before it."""
        module = self._module[0]
        for name, low in self._low.items():
            join_(module.get_parameter(name), low)
        module.float()
        self.round()
        self._put_buffers(self._buffers)
        return module


@torch.no_grad()
def halve_(weight: nn.Parameter) -> Tensor:
    """Rounds an fp32 weight to bf16 in place, and returns the 16 bits that are lost, of its shape.

    A tie is rounded away from 0, where a cast rounds it to even: the difference then fits in 16
    bits with its sign."""
    bits = weight.data.view(torch.int32)
    high = (bits + 0x8000) >> 16
    low = (bits - (high << 16)).to(torch.int16)
    weight.data = high.to(torch.int16).view(torch.bfloat16)
    return low


@torch.no_grad()
def join_(weight: nn.Parameter, low: Tensor) -> None:
    """Undoes `halve_` in place."""
    high = weight.data.view(torch.int16).to(torch.int32) << 16
    weight.data = (high + low.to(high.device)).view(torch.float32)
