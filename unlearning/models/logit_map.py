"""Finds out what a causal language model does to its logits after the output head.

Cohere, Granite and others scale them, Gemma 2 and others cap them; MiniCPM scales the hidden states
before the head. Known numbers are put in the place of the decoder's and of the head's output, and
what the model makes of them is read: exact, whatever its configuration calls these settings.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearning.errors import ConfigError
from unlearning.models.parts import decoder_of

SMALL, LARGE = 2.0**-20, 2.0**60
"""Products of the head at which a soft cap is a plain line, and at which it has flattened out."""
LARGEST_CAP = 1e9


class LogitMap(NamedTuple):
    """From hidden states h to logits: with z = scale * weight @ h + of_bias * bias, they are z, or
    softcap * tanh(z / softcap).

    Attributes:
        softcap: None where logits are not capped.
    """

    scale: float = 1.0
    of_bias: float = 1.0
    softcap: float | None = None


def find_logit_map(base: PreTrainedModel, ids: Tensor) -> LogitMap:
    """Returns the map of a model in eval mode, tried on tokens [1, L] without gradient.

    Raises:
        ConfigError: the model does something else to its logits.
    """
    seen = _try(base, ids)
    if seen is None:  # the parts are not called as modules: the comparison of logits decides
        return LogitMap()
    states, logits, products = seen
    before = float(states.flatten()[0])
    after = float(logits.flatten()[0]) / SMALL
    top = logits.flatten()[1].abs()
    softcap = None if float(top) > LARGEST_CAP else float(top)
    scale = before * after
    expected = after * products
    if softcap is not None:
        expected = softcap * (expected / softcap).tanh()
    error = ((logits - expected) / expected.abs().clamp(min=SMALL)).abs().max()
    tolerance = 1e-4 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    if not error <= tolerance:
        raise ConfigError(
            f"{type(base).__name__} does something to its logits after the output head that is "
            "neither scaling nor soft-capping, so the losses here would not be its own. Choose "
            "another model."
        )
    return LogitMap(scale, after, softcap)


def _try(base: PreTrainedModel, ids: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Returns what the head is given for hidden states of 1 [L, D], what the model makes of known
    products [L, V], and these; None where the model does not call its parts as modules."""
    head: Any = base.get_output_embeddings()
    decoder = decoder_of(base)
    states: list[Tensor] = []
    products: list[Tensor] = []

    def of_decoder(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = torch.ones_like(output.last_hidden_state)
        return output

    def before_head(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        states.append(inputs[0].double())

    def of_head(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        known = _known_products(output)
        products.append(known)
        return known.clone()  # a model may overwrite its logits

    if not isinstance(decoder, nn.Module):
        return None
    with ExitStack() as hooks:
        for handle in (
            decoder.register_forward_hook(of_decoder),
            head.register_forward_pre_hook(before_head),
            head.register_forward_hook(of_head),
        ):
            hooks.callback(handle.remove)
        logits = base(input_ids=ids, use_cache=False).logits
    if len(products) != 1 or products[0].shape != logits.shape:
        return None
    return states[0], logits.double(), products[0]


def _known_products(like: Tensor) -> Tensor:
    """Makes products of either sign over many orders of magnitude, in fp64; the first two are SMALL
    and LARGE."""
    number = like.numel()
    size = torch.logspace(-3, 3, number, dtype=torch.float64, device=like.device)
    known = size * torch.tensor([1.0, -1.0], device=like.device).repeat(number // 2 + 1)[:number]
    known[:2] = torch.tensor([SMALL, LARGE])
    return known.reshape(like.shape)
