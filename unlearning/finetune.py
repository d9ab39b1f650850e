"""`CausalLMModule`: fine-tunes a causal language model on the tokens of the answers.

Used to make the embedded base model, and to fine-tune a model on what is later to be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearning.data.finetuning import FinetuningDataModule
from unlearning.errors import ConfigError
from unlearning.head.fused import Answers, separable_loss
from unlearning.head.tied_gradient import TiedGradient
from unlearning.head.token_losses import token_losses
from unlearning.models.decoder import (
    CausalLM,
    check_head,
    decode,
    output_head,
    tied_gradient,
    unwrap,
)
from unlearning.models.load import check_context, check_vocabulary
from unlearning.models.policy import prepare_policy
from unlearning.models.trial import check_model, why_no_tree_rows
from unlearning.training.base import OptimizedModule
from unlearning.training.optimizers import Schedule
from unlearning.training.settings import plain_settings
from unlearning.types import Batch


class CausalLMModule(OptimizedModule):
    """Fine-tunes a causal language model by the NLL of the answers, whatever role the batch gives
    them.

    Args:
        model: a Hugging Face causal LM (trained in place, its own dropout left on; in 8 bits too,
            see `load_model`), or its name or path. Trained weights in fp16 or bf16 are cast to
            fp32 first.
        lora: arguments of `add_adapter`: {} is the paper's LoRA, {"kind": "adalora"} an AdaLoRA
            whose ranks are allocated over the Trainer's steps; None trains every weight.
        optimizer: see `unlearning.training.optimizers`.
        learning_rate: at the end of the warm-up.
        optimizer_options: more arguments of the optimizer.
        schedule: linear, constant or cosine.
        warmup_steps: linear warm-up before it.
        gradient_checkpointing: compute activations again in the backward pass: slower, smaller.
        chunk_size: positions whose logits are held at once; None chooses.

    Raises:
        ConfigError: for settings, models or data that do not fit together.
    """

    def __init__(
        self,
        model: CausalLM | str,
        lora: Mapping[str, Any] | None = None,
        optimizer: str = "adamw",
        learning_rate: float = 2e-4,
        optimizer_options: Mapping[str, Any] | None = None,
        schedule: Schedule = "linear",
        warmup_steps: int = 0,
        gradient_checkpointing: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            plain_settings(
                model=model if isinstance(model, str) else None, lora=lora, optimizer=optimizer,
                learning_rate=learning_rate, optimizer_options=optimizer_options or {},
                schedule=schedule, warmup_steps=warmup_steps,
                gradient_checkpointing=gradient_checkpointing, chunk_size=chunk_size,
            )
        )  # fmt: skip
        if model is None:
            raise ConfigError(
                "The checkpoint does not say which model it was trained from: give "
                "load_from_checkpoint(path, model=<a model of the same shape>)."
            )
        self.policy = prepare_policy(
            model, lora, keep_dropout=True, gradient_checkpointing=gradient_checkpointing
        )
        check_model(self.policy)
        check_head(self.policy)
        tied_gradient(self.policy)  # tried now, not in the first step

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or not isinstance(data, FinetuningDataModule):
            return
        check_vocabulary(self.policy, data.tokenizer)
        check_context(self.policy, data.context_length)
        if data.packing and (why := why_no_tree_rows(self.policy)):
            raise ConfigError(
                f"{type(unwrap(self.policy)).__name__} does not take packed rows: {why}. Use "
                "FinetuningDataModule(..., packing=False)."
            )

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        several = self.trainer.world_size > 1
        grad_buffer, tied = self.head_memory()
        hidden, targets = self._answers(batch, tied)
        tokens = hidden.new_tensor(float(len(targets)), dtype=torch.float32)
        if several:
            # Gradients are averaged over ranks. Over the ranks' mean number of tokens, that is the
            # mean over all of their tokens, as one process with all of them would have it.
            tokens = self.trainer.strategy.reduce(tokens, reduce_op="mean")
        answers = Answers(hidden, targets, lambda nll_N: torch.ones_like(nll_N) / tokens)
        head, chunk_size = output_head(self.policy), self.hparams["chunk_size"]
        gradient, [values] = separable_loss(
            [answers], head, chunk_size=chunk_size, grad_buffer=grad_buffer, tied=tied
        )
        loss = values.nll.sum() / tokens
        self.log("train/nll", loss, prog_bar=True, batch_size=1, sync_dist=several)
        return self.add_penalty(loss + gradient)

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Logs the mean over all answer tokens of the split: unlike in unlearning, a long answer
        counts more."""
        nll_N = self._token_nll(batch)
        self.log_over_split("validation/nll", nll_N.mean(), len(nll_N))

    def _token_nll(self, batch: Batch) -> Tensor:
        """Computes the NLL [N] of all answer tokens."""
        hidden, targets = self._answers(batch)
        return token_losses(hidden, output_head(self.policy), targets)[0]

    def _answers(self, batch: Batch, tied: TiedGradient | None = None) -> tuple[Tensor, Tensor]:
        """Returns hidden states [N, D] at the positions that predict answer tokens, and these
        [N]."""
        (answers,) = batch.answers.values()
        hidden = decode(self.policy, batch.rows, tied).flatten(0, 1)
        return hidden.index_select(0, answers.loss_index), answers.targets
