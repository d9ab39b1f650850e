"""Representation misdirection for unlearning (RMU), arXiv 2403.03218.

    L = mean |h_l - c u|^2 on forget answers  +  alpha mean |h_l - h_l^ref|^2 on retain answers

with h_l the hidden states after block l, u a fixed random unit vector and c its length. As in the
authors' released code, the mean is over the D entries of a state, too, and weights of three blocks
alone are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses, needs
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.ranges import Positive, Seed, Whole

OUTPUTS = r"(mlp\.c_proj|down_proj|fc2|dense_4h_to_h|fc_out|w2)\."
"""The last linear map of an MLP, as architectures call it."""

RMU_TERMS: dict[str, dict[str, Any]] = {
    "forget": {"loss": "unlearning.methods.rmu.steer", "role": "forget", "weight": 1.0},
    "retain": {"loss": "unlearning.methods.rmu.hold", "role": "retain", "weight": 1200.0},
}


@needs("hidden")
def steer(tokens: TokenLosses, scale: Positive = 6.5, seed: Seed = 0) -> Tensor:
    """Computes the mean squared distance of the hidden states to a random vector of length
    `scale` (Eq. 1)."""
    assert tokens.hidden is not None
    target_D = scale * direction(tokens.hidden.shape[-1], seed).to(tokens.hidden)
    return tokens.reduce(mean_square(tokens.hidden - target_D))


@needs("hidden", "reference_hidden")
def hold(tokens: TokenLosses) -> Tensor:
    """Computes the mean squared distance of the hidden states to the reference's (Eq. 2)."""
    assert tokens.hidden is not None and tokens.reference_hidden is not None
    difference = tokens.hidden - tokens.reference_hidden.to(tokens.hidden)
    return tokens.reduce(mean_square(difference))


def mean_square(difference_ND: Tensor) -> Tensor:
    """Computes the mean square over the D entries, [N], in fp32 at least."""
    wide = torch.promote_types(difference_ND.dtype, torch.float32)
    return difference_ND.to(wide).pow(2).mean(-1)


def direction(width: int, seed: int) -> Tensor:
    """Draws a unit vector [D], its entries uniform in 0..1 before it is normalised, from a seed."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm()


class RMU(UnlearningModule):
    """Steers the hidden states of forget answers to a random direction, and holds those of retain
    answers.

    The positions are those that predict the answers' tokens.

    Args:
        model: see `UnlearningModule`, as for all other arguments.
        layer: the decoder block whose output is steered, counted from 0.
        scale: length c of the steering vector.
        seed: of its direction.
        terms: `RMU_TERMS`, or others; `steer` and `hold` get this layer.
        trained: patterns of the trained weights, see `choose_trained`; None, without LoRA, is the
            last linear map of the MLP in blocks `layer` - 2 to `layer`.

    Raises:
        ConfigError: for settings that do not fit the model.
    """

    def __init__(
        self,
        model: CausalLM | str,
        layer: Whole = 7,
        scale: Positive = 6.5,
        seed: Seed = 0,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        trained: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        if not scale > 0 or layer < 0:
            raise ConfigError(f"RMU: scale={scale} must be above 0 and layer={layer} at least 0.")
        terms = {
            name: _in_layer(term, layer, scale, seed)
            for name, term in (RMU_TERMS if terms is None else terms).items()
        }
        if trained is None and settings.get("lora") is None:
            blocks = "|".join(str(n) for n in range(max(0, layer - 2), layer + 1))
            trained = [rf"^blocks\.({blocks})\..*{OUTPUTS}"]
        super().__init__(model, terms, trained=trained, **settings)


def _in_layer(term: Mapping[str, Any], layer: int, scale: float, seed: int) -> dict[str, Any]:
    loss = term.get("loss")
    steered = loss in (steer, "unlearning.methods.rmu.steer")
    if not steered and loss not in (hold, "unlearning.methods.rmu.hold"):
        return dict(term)
    options = {"scale": scale, "seed": seed} if steered else {}
    return {"layer": layer, **term, "options": {**options, **term.get("options", {})}}
