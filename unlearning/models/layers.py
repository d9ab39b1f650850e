"""Hidden states of named layers, recorded while a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from unlearning.errors import ConfigError
from unlearning.models.decoder import CausalLM, decode, embedded_tokens, evaluating, unwrap
from unlearning.models.parts import decoder_of
from unlearning.terms import Layer
from unlearning.types import Rows


def blocks(model: CausalLM) -> nn.ModuleList:
    """The decoder's blocks, in the order in which they run.

    Raises:
        ConfigError: the decoder has no list of as many modules as its configuration names layers.
    """
    base = unwrap(model)
    number = getattr(base.config, "num_hidden_layers", None)
    for module in decoder_of(base).modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return module
    raise ConfigError(
        f"{type(base).__name__} has no list of {number} decoder blocks; name a module by its path."
    )


def find_layer(model: CausalLM, layer: Layer) -> nn.Module:
    """The module whose output a layer's hidden states are.

    Raises:
        ConfigError: there is none of that number or path.
    """
    base = unwrap(model)
    if isinstance(layer, str):
        try:
            return base.get_submodule(layer)
        except AttributeError as error:
            raise ConfigError(f"The {type(base).__name__} has no module {layer!r}.") from error
    found = blocks(model)
    if not 0 <= layer < len(found):
        raise ConfigError(
            f"layer={layer} must be one of the {len(found)} decoder blocks of this "
            f"{type(base).__name__}, 0 to {len(found) - 1}."
        )
    return found[layer]


@contextmanager
def recorded_layers(
    model: CausalLM, layers: Sequence[Layer], detach_above: bool = False, stop: bool = False
) -> Iterator[dict[Layer, Tensor]]:
    """Within the block, a forward leaves each layer's output [R, L, D] in the dictionary.

    Args:
        detach_above: what lies above the last of these layers takes no gradient, and keeps no
            activations for one.
        stop: nothing above the last of them runs; the forward ends with `Reached`.
    """
    states: dict[Layer, Tensor] = {}
    modules = {layer: find_layer(model, layer) for layer in layers}

    def record(layer: Layer) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            states.setdefault(layer, first)  # checkpointing runs a layer a second time
            if len(states) < len(layers):
                return None
            if stop:
                raise Reached
            if not detach_above:
                return None
            return (first.detach(), *output[1:]) if isinstance(output, tuple) else first.detach()

        return hook

    with ExitStack() as stack:
        for layer, module in modules.items():
            stack.enter_context(_removed(module.register_forward_hook(record(layer))))
        yield states


def check_layers(model: CausalLM, layers: Sequence[Layer]) -> None:
    """Tries whether each layer's output is its hidden states, one for every position.

    Raises:
        ConfigError: there is no such layer, or its output has another shape.
    """
    if not layers:
        return
    rows = probe_rows(model)
    wanted = tuple(rows.input_ids.shape)
    with torch.no_grad(), evaluating(model):
        for layer in layers:
            found: object = None
            with recorded_layers(model, [layer]) as states, suppress(AttributeError):
                decode(model, rows)
                found = states.get(layer)
            shape = tuple(found.shape) if isinstance(found, Tensor) else None
            if shape is None or len(shape) != 3 or shape[:2] != wanted:
                raise ConfigError(
                    f"layer={layer!r} gives {shape or type(found).__name__} for rows of shape "
                    f"{wanted}, and hidden states are [R, L, D]. Take a decoder block by its "
                    "number."
                )


def freeze_above(model: CausalLM, layers: Sequence[Layer]) -> None:
    """Freezes the trained weights on which no layer's hidden states depend.

    Losses of those states alone give them no gradient: several ranks would wait for one, and weight
    decay would move them.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad(), evaluating(model), recorded_layers(model, layers) as states:
        decode(model, probe_rows(model))
        total = torch.stack([state.float().pow(2).sum() for state in states.values()]).sum()
        gradients = torch.autograd.grad(total, trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


def probe_rows(model: CausalLM) -> Rows:
    """Two rows of six tokens."""
    base = unwrap(model)
    size = embedded_tokens(model)
    ids = torch.arange(12, device=base.device).view(2, 6) * 5 % size
    return Rows(ids, torch.arange(6, device=ids.device).expand(2, 6), torch.ones_like(ids).bool())


class Reached(Exception):  # noqa: N818 - no error
    """All layers that were asked for have run."""


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def layer_states(model: CausalLM, rows: Rows, layers: Sequence[Layer]) -> dict[Layer, Tensor]:
    """Hidden states [R, L, D] of each layer, in eval mode; nothing above the last one runs."""
    recorded = recorded_layers(model, layers, stop=True)
    with evaluating(model), recorded as states, suppress(Reached):
        decode(model, rows)
    return states
