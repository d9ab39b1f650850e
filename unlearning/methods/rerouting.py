"""Representation rerouting (circuit breakers), arXiv 2406.04313, Algorithm 1.

    L = c_s mean relu(cos(h, h_ref)) on forget answers  +  c_r mean |h - h_ref| on retain answers
    c_s = alpha (1 - t / 2T),   c_r = alpha t / 2T

with h the hidden states after some blocks, t the step of T. Forgetting comes first and never stops,
holding grows to as much. As the authors' code, over tokens and blocks alike; there the retain term
is on the states after every block and its mean counts padding, here it is on the answers' tokens in
the rerouted blocks. That code counts layers from 1 (its layer 0 are the embeddings), here from 0.

Where h = h_ref the cosine is largest and has no gradient, and the distance pulls back at full
strength however small it is: the start is left by rounding alone, which Adam scales up, and with a
learning rate that is too small it is never left and nothing is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses, needs
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.ranges import Positive, Whole
from unlearning.types import Batch


@needs("hidden", "reference_hidden")
def reroute(tokens: TokenLosses) -> Tensor:
    """Computes the mean cosine of the hidden states with the reference's, where it is above 0.

    Examples:
        >>> hidden = torch.tensor([[3.0, 4.0], [-1.0, 0.0]])
        >>> before = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> nll, answer = torch.zeros(2), torch.tensor([0, 0])
        >>> tokens = TokenLosses(nll, answer, 1, hidden=hidden, reference_hidden=before)
        >>> round(reroute(tokens).item(), 4)  # (.6 + 0) / 2
        0.3
    """
    assert tokens.hidden is not None and tokens.reference_hidden is not None
    wide = torch.promote_types(tokens.hidden.dtype, torch.float32)
    now_ND, before_ND = tokens.hidden.to(wide), tokens.reference_hidden.to(wide)
    return tokens.reduce(functional.cosine_similarity(now_ND, before_ND, dim=-1).relu())


@needs("hidden", "reference_hidden")
def keep(tokens: TokenLosses) -> Tensor:
    """Computes the mean Euclidean distance of the hidden states to the reference's."""
    assert tokens.hidden is not None and tokens.reference_hidden is not None
    wide = torch.promote_types(tokens.hidden.dtype, torch.float32)
    return tokens.reduce((tokens.hidden.to(wide) - tokens.reference_hidden.to(wide)).norm(dim=-1))


def rerouting_terms(layers: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Returns the terms of both losses at these blocks, whose means over the blocks they are."""
    losses = {"forget": "reroute", "retain": "keep"}
    return {
        f"{role}_{layer}": {
            "loss": f"unlearning.methods.rerouting.{loss}",
            "role": role,
            "weight": 1 / len(layers),
            "layer": layer,
        }
        for role, loss in losses.items()
        for layer in layers
    }


class Rerouting(UnlearningModule):
    """Turns the hidden states of forget answers away from where they were, with weights that move
    from forgetting to holding over the training.

    Args:
        model: see `UnlearningModule`, as for all other arguments.
        layers: the decoder blocks whose output is rerouted, counted from 0.
        alpha: of both coefficients.
        terms: None is `reroute` and `keep` at each of the layers; others name their own. Their
            weights are shares, which the schedule multiplies.

    Raises:
        ConfigError: alpha is not above 0; from `setup`, without `max_steps`, or with a guard that
            lowers weights, which the schedule sets.
    """

    def __init__(
        self,
        model: CausalLM | str,
        layers: Sequence[Whole] = (9, 19),
        alpha: Positive = 10.0,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if not (alpha > 0 and math.isfinite(alpha)):
            raise ConfigError(f"Rerouting: alpha={alpha} must be a number above 0.")
        super().__init__(model, rerouting_terms(layers) if terms is None else terms, **settings)
        self.alpha = alpha
        self._shares = {name: term.weight for name, term in self.objective.terms.items()}
        self.schedule(0, 1)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        if self.trainer.max_steps < 1:
            raise ConfigError("Rerouting's weights go by the step: give the Trainer max_steps.")
        if any(getattr(callback, "action", None) == "lower" for callback in self._callbacks()):
            raise ConfigError(
                "callbacks.guard.action=lower lowers weights that Rerouting's schedule sets at "
                "every step. Set action=stop."
            )

    def _callbacks(self) -> list[Any]:
        return list(getattr(self.trainer, "callbacks", []))

    def schedule(self, step: int, steps: int) -> None:
        """Sets the terms' weights for a step, counted from 0, of so many; a loop of one's own calls
        it."""
        progress = step / (2 * steps)
        for name, term in self.objective.terms.items():
            holds = "retain" in term.roles
            term.weight = self._shares[name] * self.alpha * (progress if holds else 1 - progress)

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        self.schedule(self.trainer.global_step, self.trainer.max_steps)
        return super().training_step(batch, batch_idx)
