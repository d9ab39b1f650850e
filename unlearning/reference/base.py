"""Interface of the reference models, and the forward pass that most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.head.logits import Head
from unlearning.models.decoder import CausalLM, decode, evaluating, output_head
from unlearning.models.layers import layer_states
from unlearning.terms import Layer
from unlearning.types import Batch, Role, TokenizedExample


class Reference(ABC):
    """Interface: hidden states of the model before unlearning at the loss positions of a role.

    Attributes:
        runs: whether a model runs at every step; its roles then get rows of their own.
    """

    runs = True

    @abstractmethod
    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        """Returns the hidden states [N, D] of each role, in the order of the batch's
        `loss_index`, without gradient."""

    def layers(
        self, batch: Batch, wanted: Mapping[Layer, set[Role]]
    ) -> dict[Layer, dict[Role, Tensor]]:
        """Returns the hidden states [N, D] of each layer and role at the loss positions, without
        gradient.

        Raises:
            ConfigError: this reference keeps only the states under the output head.
        """
        raise ConfigError(
            f"{type(self).__name__} keeps no hidden states of inner layers. Take reference=copy, "
            "or adapter_off with LoRA."
        )

    @abstractmethod
    def head(self) -> Head:
        """Returns the reference's output head."""

    def prepare(
        self, sequences: Mapping[Role, Sequence[TokenizedExample]], pad_token_id: int
    ) -> None:
        """Computes what can be computed ahead of training, from the training sequences and the
        untrained policy."""
        return None  # most have nothing to compute


@torch.no_grad()
def hidden_states(model: CausalLM, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
    """Computes hidden states in one forward, on the rows alone that these roles need."""
    batch = batch.only(roles)
    with evaluating(model):
        states = decode(model, batch.rows).flatten(0, 1)
    return {role: states[batch.answers[role].loss_index] for role in roles}


def states_in_layers(
    model: CausalLM, batch: Batch, wanted: Mapping[Layer, set[Role]]
) -> dict[Layer, dict[Role, Tensor]]:
    """Computes hidden states of layers in one forward, up to the last of these layers."""
    batch = batch.only(set[Role]().union(*wanted.values()))
    states = layer_states(model, batch.rows, list(wanted))
    return {
        layer: {role: states[layer].flatten(0, 1)[batch.answers[role].loss_index] for role in roles}
        for layer, roles in wanted.items()
    }


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
    sizes = [output_head(one).weight.shape[0] for one in (policy, model)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"The policy has {sizes[0]} tokens and the reference {sizes[1]}; a KL between them "
            "needs one vocabulary. Give the model that the policy was fine-tuned from."
        )
