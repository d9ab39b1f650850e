"""JensUn, arXiv 2509.02820: Jensen-Shannon divergences to a refusal and to the reference.

    L = lambda_F mean JSD(p || onehot(refusal token))  +  lambda_R mean JSD(p || p_ref)

The first at the positions of the forget answers, whose n-th token is to be the n-th of the refusal,
which is repeated along the answer; the second on retain answers. Both lie between 0 and log 2, so
that neither outgrows the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses, separable_in
from unlearning.methods.ceu import place_in_sequence
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.quantities import token_quantity
from unlearning.training.batch_loss import BatchValues
from unlearning.training.step_rule import TermGradients
from unlearning.types import Batch

JENSUN_TERMS: dict[str, dict[str, Any]] = {
    "forget": {"loss": "unlearning.methods.jensun.jsd_to_token", "role": "forget", "weight": 1.0},
    "retain": {
        "loss": "unlearning.methods.jensun.jsd_to_reference",
        "role": "retain",
        "weight": 1.0,
    },
}


@separable_in("nll")
def jsd_to_token(tokens: TokenLosses) -> Tensor:
    """Computes the mean Jensen-Shannon divergence to the targets' one-hot distributions, in nats.

    Of the distribution it depends on the token's probability alone:
    log 2 + (p log p - (1 + p) log(1 + p)) / 2.

    Examples:
        >>> never = TokenLosses(torch.tensor([200.0]), torch.tensor([0]), 1)
        >>> round(jsd_to_token(never).item(), 4)  # log 2
        0.6931
    """
    p_N = (-tokens.nll).exp()
    jsd_N = math.log(2) - (p_N * tokens.nll + (1 + p_N) * p_N.log1p()) / 2
    return tokens.reduce(jsd_N)


@token_quantity(needs_reference=True)
def jsd_to_reference(logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor) -> Tensor:
    """Computes the Jensen-Shannon divergence from the reference's distribution, [N] in nats.

    Examples:
        >>> sure = torch.tensor([[200.0, 0.0]])
        >>> round(jsd_to_reference(sure, torch.tensor([0]), sure.flip(1)).item(), 4)  # log 2
        0.6931
    """
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    log_p_NV, log_q_NV = (z.to(wide).log_softmax(-1) for z in (logits_NV, reference_NV))
    log_m_NV = torch.logaddexp(log_p_NV, log_q_NV) - math.log(2)
    to_middle_NV = log_p_NV.exp() * (log_p_NV - log_m_NV) + log_q_NV.exp() * (log_q_NV - log_m_NV)
    return to_middle_NV.sum(-1) / 2


class JensUn(UnlearningModule):
    """Brings the model's answers to forget prompts to a refusal by Jensen-Shannon divergences.

    What is logged as `train/nll_forget` is the refusal's NLL then, not that of the answers.

    Args:
        model: see `UnlearningModule`, as for all other arguments.
        refusal: a text, tokenised by the data's tokenizer when the training is set up; or its
            tokens, which a loop without a Trainer needs.
        terms: `JENSUN_TERMS`, or others; every term on forget answers gets the refusal's tokens as
            its targets.

    Raises:
        ConfigError: from `setup`, without an `UnlearningDataModule` to tokenise the refusal, or
            where it has no token.
    """

    def __init__(
        self,
        model: CausalLM | str,
        refusal: str | Sequence[int] = "No idea",
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model, JENSUN_TERMS if terms is None else terms, **settings)
        self.refusal = refusal if isinstance(refusal, str) else tuple(refusal)
        self._tokens: tuple[int, ...] = () if isinstance(refusal, str) else tuple(refusal)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(self.refusal, str):
            if not isinstance(data, UnlearningDataModule):
                raise ConfigError(
                    "JensUn tokenises its refusal by an UnlearningDataModule's tokenizer. Give one "
                    "to Trainer.fit, or the refusal as tokens."
                )
            found = data.tokenizer(self.refusal, add_special_tokens=False)["input_ids"]
            self._tokens = tuple(found)
        if not self._tokens:
            raise ConfigError(f"JensUn: refusal={self.refusal!r} has no token; give a text.")

    def loss(self, batch: Batch) -> BatchValues:
        return super().loss(self.refusing(batch))

    def term_gradients(self, batch: Batch) -> TermGradients:
        return super().term_gradients(self.refusing(batch))

    def refusing(self, batch: Batch) -> Batch:
        """Returns the batch with the refusal's tokens, repeated, as the forget answers' targets;
        what the model reads is left as it is."""
        if "forget" not in batch.answers:
            return batch
        if not self._tokens:
            raise ConfigError("JensUn: give the refusal as tokens where no Trainer sets it up.")
        forget = batch.answers["forget"]
        place_N = place_in_sequence(forget.sequence, forget.num_sequences)
        tokens = torch.tensor(self._tokens, device=place_N.device)
        changed = replace(forget, targets=tokens[place_N % len(tokens)])
        return replace(batch, answers={**batch.answers, "forget": changed})
