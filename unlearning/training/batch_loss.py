"""From a batch to what a step descends: the decoder once, the output head where a loss is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unlearning.head.fused import Answers, chunk_rows, separable_loss
from unlearning.head.tied_gradient import TiedGradient
from unlearning.head.token_losses import Head, token_losses
from unlearning.losses import Reduction, TokenLosses
from unlearning.models.decoder import CausalLM, decode, output_head
from unlearning.objective import Objective
from unlearning.reference import Reference
from unlearning.types import AnswerTokens, Batch, Role


class BatchLoss:
    """The objective on a batch's answers.

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
    ) -> tuple[Tensor, dict[Role, TokenLosses]]:
        """The weighted sum of the terms, differentiable once, and the token losses it is made of.

        A role whose tokens count each by itself is differentiated in one pass over the output head,
        `unlearning.head.fused`; its token losses then carry no gradient.

        Args:
            grad_buffer: memory for the head's gradient, see `separable_loss`.
            tied: see `unlearning.models.decoder.tied_gradient`.
        """
        roles = self.objective.roles
        separable = {r for r in roles if self.objective.separable_in(r) is not None}
        if not torch.is_grad_enabled():
            separable = set()
        tied = tied if separable else None  # else nothing would be put there
        hidden = decode(policy, batch.rows, tied).flatten(0, 1)
        references, reference_head = self._references(batch, reference)
        tokens = {
            role: self._token_losses(policy, hidden, batch.answers[role], references.get(role),
                                     reference_head)
            for role in sorted(roles - separable)
        }  # fmt: skip
        gradient: Tensor | float = 0.0
        if separable:
            order = sorted(separable)
            answers = [self._answers(role, batch, hidden, references) for role in order]
            gradient, losses = separable_loss(
                answers, output_head(policy), reference_head, self.chunk_size, grad_buffer, tied
            )
            for role, each in zip(order, losses, strict=True):
                tokens[role] = self._tokens(batch.answers[role], *each)
        return self.objective.total(self.objective(tokens)) + gradient, tokens

    def token_losses(
        self, policy: CausalLM, batch: Batch, reference: Reference | None
    ) -> dict[Role, TokenLosses]:
        """Per role of the objective, the policy's and the reference's losses on its answers."""
        hidden = decode(policy, batch.rows).flatten(0, 1)
        references, head = self._references(batch, reference)
        return {
            role: self._token_losses(
                policy, hidden, batch.answers[role], references.get(role), head
            )
            for role in sorted(self.objective.roles)
        }

    def _references(
        self, batch: Batch, reference: Reference | None
    ) -> tuple[Mapping[Role, Tensor], Head | None]:
        """The reference's hidden states of the roles that need them, and its head."""
        if reference is None:
            return {}, None
        return reference.hidden(batch, self.objective.reference_roles), reference.head()

    def _token_losses(
        self,
        policy: CausalLM,
        hidden: Tensor,
        answers: AnswerTokens,
        reference: Tensor | None,
        reference_head: Head | None,
    ) -> TokenLosses:
        weight, bias = output_head(policy)
        other_weight, other_bias = reference_head or (None, None)
        losses = token_losses(
            hidden[answers.loss_index], weight, answers.targets, bias, reference, other_weight,
            other_bias, self.chunk_size or chunk_rows(weight),
        )  # fmt: skip
        return self._tokens(answers, *losses)

    def _answers(
        self, role: Role, batch: Batch, hidden: Tensor, references: Mapping[Role, Tensor]
    ) -> Answers:
        answers, quantity = batch.answers[role], self.objective.separable_in(role)

        def slopes(values: Tensor) -> Tensor:
            kl = values if quantity == "kl" else None
            return self.objective.slopes(role, self._tokens(answers, values, kl, None))

        at_loss = hidden.index_select(0, answers.loss_index)
        return Answers(
            at_loss, answers.targets, slopes, references[role] if quantity == "kl" else None
        )

    def _tokens(
        self, answers: AnswerTokens, nll: Tensor, kl: Tensor | None, reference_nll: Tensor | None
    ) -> TokenLosses:
        return TokenLosses(
            nll, answers.sequence, answers.num_sequences, self.reduction, kl, reference_nll
        )
