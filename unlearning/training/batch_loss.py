"""Computes the training loss of a batch: one forward of the decoder, and the output head where a
loss is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unlearning.head.fused import Answers, Values, separable_loss
from unlearning.head.logits import Head, chunk_rows
from unlearning.head.quantity import quantity_values
from unlearning.head.tied_gradient import TiedGradient
from unlearning.head.token_losses import token_losses
from unlearning.losses import Reduction, TokenLosses
from unlearning.models.decoder import CausalLM, decode, output_head
from unlearning.models.layers import recorded_layers
from unlearning.objective import Objective
from unlearning.quantities import Separable
from unlearning.reference import Reference
from unlearning.terms import Layer, Term
from unlearning.types import AnswerTokens, Batch, Role

States = dict[Layer, Tensor]
"""Hidden states [R * L, D] by layer."""


@dataclass(frozen=True)
class BatchValues:
    """The loss of one batch, with its terms and token values.

    Args:
        total: the weighted sum of the terms, differentiable once.
        terms: each term's raw value, by name.
        tokens: the token losses by role; where a role was differentiated in one pass over the
            output head, they carry no gradient.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[Role, TokenLosses] = field(default_factory=dict)


class BatchLoss:
    """Computes an objective on a batch's answers.

    Args:
        objective: its terms; the reference is asked for the roles that need it.
        reduction: over the tokens of an answer; see `unlearning.losses`.
        chunk_size: positions whose logits are held at once; None chooses.
    """

    def __init__(
        self, objective: Objective, reduction: Reduction = "mean", chunk_size: int | None = None
    ) -> None:
        self.objective, self.reduction, self.chunk_size = objective, reduction, chunk_size

    def __call__(
        self,
        policy: CausalLM,
        batch: Batch,
        reference: Reference | None,
        grad_buffer: Tensor | None = None,
        tied: TiedGradient | None = None,
    ) -> BatchValues:
        """Computes the weighted sum of the terms, and what it is made of.

        A role with separable terms is differentiated in one pass over the output head,
        `unlearning.head.fused`; the others in two.

        Args:
            grad_buffer: memory for the head's gradient, see `separable_loss`.
            tied: see `unlearning.models.decoder.tied_gradient`.
        """
        separable = self._separable() if torch.is_grad_enabled() else {}
        tied = tied if separable else None  # else nothing would be put there
        hidden, states = self._decode(policy, batch, tied)
        references = _References(self.objective, batch, reference)
        tokens = {
            role: self._two_passes(policy, hidden, role, batch.answers[role], references)
            for role in sorted(self.objective.roles - separable.keys())
        }
        gradient: Tensor | float = 0.0
        if separable:
            answers = [
                self._answers(role, batch.answers[role], hidden, references, separable[role])
                for role in separable
            ]
            gradient, found = separable_loss(
                answers, output_head(policy), references.head, self.chunk_size, grad_buffer, tied
            )
            for (role, quantity), values in zip(separable.items(), found, strict=True):
                tokens[role] = self._tokens(batch.answers[role], values, quantity)
        terms = self.objective(tokens, self._in_layers(batch, tokens, states, references))
        return BatchValues(self.objective.total(terms) + gradient, terms, tokens)

    def token_losses(
        self, policy: CausalLM, batch: Batch, reference: Reference | None
    ) -> dict[Role, TokenLosses]:
        """Computes for each role of the objective the policy's and the reference's losses on its
        answers."""
        hidden = decode(policy, batch.rows).flatten(0, 1)
        references = _References(self.objective, batch, reference)
        return {
            role: self._two_passes(policy, hidden, role, batch.answers[role], references)
            for role in sorted(self.objective.roles)
        }

    def _separable(self) -> dict[Role, Separable]:
        """Returns the roles that one pass serves, in the same order on every rank."""
        found = {role: self.objective.separable_in(role) for role in sorted(self.objective.roles)}
        return {role: quantity for role, quantity in found.items() if quantity is not None}

    def _decode(
        self, policy: CausalLM, batch: Batch, tied: TiedGradient | None
    ) -> tuple[Tensor, States]:
        """Computes the hidden states [R * L, D] under the output head, and those of the terms'
        layers.

        Where no term is a loss of the logits, nothing above the highest layer takes a gradient.
        """
        layers, above = list(self.objective.layers), self.objective.uses_head
        with recorded_layers(policy, layers, detach_above=not above) as states:
            hidden = decode(policy, batch.rows, tied).flatten(0, 1)
        return hidden, {layer: state.flatten(0, 1) for layer, state in states.items()}

    def _two_passes(
        self,
        policy: CausalLM,
        hidden: Tensor,
        role: Role,
        answers: AnswerTokens,
        references: _References,
    ) -> TokenLosses:
        """Computes token losses that a loss may combine in any way; without gradient where no
        term does."""
        head, other_head = output_head(policy), references.head
        other = references.hidden.get(role)
        size = self.chunk_size or chunk_rows(head.weight)
        on_head = self.objective.on_head(role)
        with torch.set_grad_enabled(torch.is_grad_enabled() and on_head):
            states = hidden[answers.loss_index]
            nll, kl, reference_nll = token_losses(
                states, head, answers.targets, other, other_head, size
            )
            found = {
                quantity: quantity_values(
                    quantity, states, head, answers.targets, other, other_head, max(1, size // 4)
                )
                for quantity in self.objective.quantities(role)
            }  # fmt: skip
        tokens = self._tokens(answers, Values(nll, kl, reference_nll), "nll")
        return replace(tokens, values=found)

    def _answers(
        self,
        role: Role,
        answers: AnswerTokens,
        hidden: Tensor,
        references: _References,
        quantity: Separable,
    ) -> Answers:
        def slopes(values: Tensor) -> Tensor:
            # Where only one quantity is known yet, the others have to be something.
            known = Values(values, values if quantity == "kl" else None, quantity=values)
            return self.objective.slopes(role, self._tokens(answers, known, quantity))

        at_loss = hidden.index_select(0, answers.loss_index)
        measured = None if isinstance(quantity, str) else quantity
        compared = quantity == "kl" or (measured is not None and measured.needs_reference)
        reference_hidden = references.hidden[role] if compared else None
        return Answers(at_loss, answers.targets, slopes, reference_hidden, measured)

    def _tokens(self, answers: AnswerTokens, values: Values, quantity: Separable) -> TokenLosses:
        measured = {} if isinstance(quantity, str) else {quantity: values.quantity}
        return TokenLosses(
            values.nll, answers.sequence, answers.num_sequences, self.reduction, values.kl,
            values.reference_nll, measured, answers.prompt,  # type: ignore[arg-type]
        )  # fmt: skip

    def _in_layers(
        self,
        batch: Batch,
        tokens: Mapping[Role, TokenLosses],
        states: States,
        references: _References,
    ) -> dict[str, list[TokenLosses]]:
        """Returns the hidden states that the terms with a layer read."""

        def seen(term: Term, role: Role) -> TokenLosses:
            assert term.layer is not None
            index = batch.answers[role].loss_index
            other = references.layers.get(term.layer, {}).get(role)
            return replace(tokens[role], hidden=states[term.layer][index], reference_hidden=other)

        terms = self.objective.terms.items()
        return {n: [seen(t, role) for role in t.roles] for n, t in terms if t.in_layers}


class _References:
    """The hidden states that the objective needs of the reference on one batch, and its head."""

    def __init__(self, objective: Objective, batch: Batch, reference: Reference | None) -> None:
        self.hidden: Mapping[Role, Tensor] = {}
        self.layers: Mapping[Layer, Mapping[Role, Tensor]] = {}
        self.head: Head | None = None
        if reference is None:
            return
        if objective.reference_roles:
            self.hidden = reference.hidden(batch, objective.reference_roles)
            self.head = reference.head()
        if objective.reference_layers:
            self.layers = reference.layers(batch, objective.reference_layers)
