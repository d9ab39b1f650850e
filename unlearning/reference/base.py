"""Interface of the reference models, and the forward pass that most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.head.token_losses import Head
from unlearning.models.decoder import CausalLM, decode, evaluating, output_head
from unlearning.types import Batch, Role, Rows, TokenizedExample


class Reference(ABC):
    """Interface: hidden states of the model before unlearning at the loss positions of a role.

    Attributes:
        runs: whether a model runs at every step; it is best given rows of its own roles alone.
    """

    runs = True

    @abstractmethod
    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        """Returns the hidden states [N, D] of each role, in the order of the batch's
        `loss_index`, without gradient."""

    @abstractmethod
    def head(self) -> Head:
        """Returns the reference's output head: weight [V, D], and bias [V] or None."""

    def prepare(
        self, sequences: Mapping[Role, Sequence[TokenizedExample]], pad_token_id: int
    ) -> None:
        """Computes what can be computed ahead of training, from the training sequences and the
        untrained policy."""
        return None  # most have nothing to compute


@torch.no_grad()
def hidden_states(model: CausalLM, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
    """Computes hidden states in one forward, on the retain rows alone where no other role is
    asked for."""
    first = batch.retain_start if roles == {"retain"} else 0
    rows = batch.rows
    if first:
        rows = Rows(rows.input_ids[first:], rows.position_ids[first:], rows.attention_mask[first:])
    with evaluating(model):
        states = decode(model, rows).flatten(0, 1)
    shift = first * rows.input_ids.shape[1]
    return {role: states[batch.answers[role].loss_index - shift] for role in roles}


def check_reference_model(policy: CausalLM, model: CausalLM) -> None:
    """Checks that a reference model shares no weights with the policy and has the same vocabulary.

    Raises:
        ConfigError: it shares weights with the policy, or has another vocabulary.
    """
    ours = {p.data_ptr() for p in policy.parameters()}
    shared = [name for name, p in model.named_parameters() if p.data_ptr() in ours]
    if shared:
        raise ConfigError(
            f"The reference shares {len(shared)} weights with the policy ({shared[0]}), so it "
            "would change with it. Give a model that was loaded apart."
        )
    sizes = [output_head(one)[0].shape[0] for one in (policy, model)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"The policy has {sizes[0]} tokens and the reference {sizes[1]}; a KL between them "
            "needs one vocabulary. Give the model that the policy was fine-tuned from."
        )
