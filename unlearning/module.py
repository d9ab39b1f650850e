"""`UnlearningModule`: the step and its optimizer, nothing else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.token_store import token_counts
from unlearning.errors import ConfigError
from unlearning.fsdp import check_sharded, is_sharded
from unlearning.losses import Reduction, TokenLosses
from unlearning.models.adapter import prepare_policy
from unlearning.models.decoder import (
    CausalLM,
    check_head,
    output_head,
    takes_tree_rows,
    tied_gradient,
    unwrap,
)
from unlearning.models.load import check_context, check_vocabulary, load_model
from unlearning.objective import PAPER_TERMS, Objective
from unlearning.reference import Mode, Reference, build_reference
from unlearning.training.base import OptimizedModule
from unlearning.training.batch_loss import BatchLoss
from unlearning.training.optimizers import Schedule
from unlearning.training.settings import check_settings, plain_settings
from unlearning.types import Batch, Role, TokenizedExample

log = logging.getLogger(__name__)


class UnlearningModule(OptimizedModule):
    """Weighted unlearning of a causal language model (arXiv 2405.15152).

        theta <- theta - e1 grad L_fgt - e2 grad L_rdn - e3 grad L_nor

    In a script of your own:

        module = UnlearningModule(AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b"))
        data = UnlearningDataModule(forget, retain, tokenizer)
        Trainer(max_steps=1000).fit(module, data)

    Args:
        model: the policy: a Hugging Face causal LM (it is trained in place), or its name or path.
        terms: name -> term, see `unlearning.objective`; None is the paper's with e = (0.5, 1, 1).
        lora: arguments of `add_adapter`, {} for the paper's LoRA; None trains every weight.
        reference: auto, adapter_off, cached or copy; see `unlearning.reference`.
        reference_model: the model that the KL is to, or its name or path; None is the policy before
            its first step. Where the policy was fine-tuned on what it is to forget, give the model
            from before; the KL is then above 0 from the start.
        reference_dtype: of cached hidden states, `float32` or `bfloat16`.
        cache_dir: where cached hidden states are kept; None keeps them in memory.
        reduction: over the tokens of an answer; see `unlearning.losses`.
        optimizer: `adamw`, `adamw_8bit` or an import path.
        learning_rate: the paper's 2e-6 is for full fine-tuning of OPT.
        optimizer_options: more arguments of the optimizer.
        schedule: linear (the paper's), constant or cosine.
        warmup_steps: linear warm-up before it.
        keep_dropout: leave the model's dropout as it is; the KL is then above 0 from the start.
        gradient_checkpointing: recompute layers in the backward, the non-re-entrant way.
        chunk_size: positions whose logits are held at once; None chooses by device and vocabulary.

    Raises:
        ConfigError: for settings, models or data that do not fit together.
    """

    def __init__(
        self,
        model: CausalLM | str,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        lora: Mapping[str, Any] | None = None,
        reference: Mode = "auto",
        reference_model: CausalLM | str | None = None,
        reference_dtype: str = "float32",
        cache_dir: str | Path | None = None,
        reduction: Reduction = "mean",
        optimizer: str = "adamw",
        learning_rate: float = 2e-6,
        optimizer_options: Mapping[str, Any] | None = None,
        schedule: Schedule = "linear",
        warmup_steps: int = 0,
        keep_dropout: bool = False,
        gradient_checkpointing: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        terms = PAPER_TERMS if terms is None else terms
        self.objective = Objective(terms)
        check_settings(reduction, reference, reference_dtype, schedule, learning_rate, chunk_size)
        self.save_hyperparameters(
            plain_settings(
                model=model if isinstance(model, str) else None, terms=terms, lora=lora,
                reference=reference,
                reference_model=reference_model if isinstance(reference_model, str) else None,
                reference_dtype=reference_dtype, cache_dir=cache_dir,
                reduction=reduction, optimizer=optimizer, learning_rate=learning_rate,
                optimizer_options=optimizer_options, schedule=schedule, warmup_steps=warmup_steps,
                keep_dropout=keep_dropout, gradient_checkpointing=gradient_checkpointing,
                chunk_size=chunk_size,
            )
        )  # fmt: skip
        if model is None:
            raise ConfigError(
                "The checkpoint does not say which model it was trained from: give "
                "load_from_checkpoint(path, model=<the model before unlearning>)."
            )
        self.policy = prepare_policy(model, lora, keep_dropout, gradient_checkpointing)
        check_head(self.policy)
        tied_gradient(self.policy)  # tried now, not in the first step
        self._batch_loss = BatchLoss(self.objective, reduction, chunk_size)
        self.reference: Reference | None = None
        # In a tuple, the model is no submodule, hence in no checkpoint and no optimizer.
        self._reference_model = (reference_model,)
        self._weights_loaded = False

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or self.reference is not None:
            return
        check_sharded(
            self.trainer.strategy, self.hparams["reference"], optimizer=self.hparams["optimizer"]
        )
        data = getattr(self.trainer, "datamodule", None)
        sequences: dict[Role, Sequence[TokenizedExample]] = {}
        if isinstance(data, UnlearningDataModule):
            self._check_data(data)
            wanted = self.objective.reference_roles
            sequences = {r: items for r, items in data.sequences.items() if r in wanted}
        if not self.objective.reference_roles:
            return
        if self._weights_loaded and self._reference_model[0] is None:
            raise ConfigError(
                "These weights come from a checkpoint, and the reference is the model before "
                "unlearning. To continue, build the module from that model and call "
                "Trainer.fit(..., ckpt_path=<the checkpoint>)."
            )
        self.to(self.trainer.strategy.root_device)
        self.reference = self._build_reference(sequences)
        log.info("reference: %s", type(self.reference).__name__)
        if sequences and data is not None:
            with self.trainer.precision_plugin.forward_context():
                self.reference.prepare(sequences, data.pad_token_id)
            data.retain_apart = self.reference.runs
        self._reference_model = (None,)  # the reference has it, or what it needs of it

    def _build_reference(self, sequences: Mapping[Role, Sequence[TokenizedExample]]) -> Reference:
        """For these training sequences; a role whose data are streamed is not among them."""
        (other,) = self._reference_model
        if isinstance(other, str):
            other = load_model(other)
        roles, mode = self.objective.reference_roles, self.hparams["reference"]
        sharded = is_sharded(self.trainer.strategy)
        if roles - sequences.keys() and mode in ("auto", "cached"):
            if mode == "cached":
                raise ConfigError(
                    "reference=cached needs an UnlearningDataModule whose data are not streamed, "
                    "to cache for. Use copy, or adapter_off with LoRA, or streaming=false."
                )
            own = isinstance(self.policy, PeftModel) and other is None
            mode = "adapter_off" if own else "copy"
        tokens = sum(int(token_counts(items)[1].sum()) for items in sequences.values())
        passes = 0.0
        if roles == {"retain"} and sequences:
            passes = self.trainer.datamodule.retain_pairs_drawn() / len(sequences["retain"])  # type: ignore[attr-defined]
        dtype = getattr(torch, self.hparams["reference_dtype"])
        width = output_head(self.policy if other is None else other)[0].shape[1]
        return build_reference(
            mode, self.policy, cache_dir=self.hparams["cache_dir"], dtype=dtype,
            cache_bytes=tokens * width * dtype.itemsize, passes=passes, roles=roles, model=other,
            sharded=sharded,
        )  # fmt: skip

    def _check_data(self, data: UnlearningDataModule) -> None:
        check_vocabulary(self.policy, data.tokenizer)
        if "mismatch" in self.objective.roles and data.mismatch_per_prompt == 0:
            raise ConfigError(
                "A term is on mismatch answers, and mismatch_per_prompt=0 draws none. Raise it, or "
                "leave the term out."
            )
        check_context(self.policy, data.max_length)
        if data.layout == "tree" and not takes_tree_rows(self.policy):
            raise ConfigError(
                f"{type(unwrap(self.policy)).__name__} does not take tree rows (a 4-D mask with "
                "position ids). Use UnlearningDataModule(..., layout='padded')."
            )

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        total, tokens = self.loss(batch)
        self._log(total.detach(), tokens)
        return self.add_penalty(total)

    def _log(self, total: Tensor, tokens: Mapping[Role, TokenLosses]) -> None:
        """Every term, weighted and not, and every role's NLL; one collective for all of them."""
        values = {name: value.detach() for name, value in self.objective(tokens).items()}
        parts = {"train/total": total}
        for name, value in values.items():
            parts[f"train/{name}"] = value
            parts[f"train/{name}_weighted"] = self.objective.terms[name].weight * value
        for role, losses in tokens.items():
            parts[f"train/nll_{role}"] = losses.nll.detach().mean()
        if self.trainer.world_size > 1:
            means = torch.stack([*parts.values()]) / self.trainer.world_size
            torch.distributed.all_reduce(means)  # the strategy's own has a barrier before it
            parts = dict(zip(parts, means.unbind(), strict=True))
        self.log_dict(parts, batch_size=1)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[Role, TokenLosses]]:
        """What a step descends, and the token losses it is made of; see `BatchLoss`."""
        return self._batch_loss(self.policy, batch, self.reference, *self.head_memory())

    def token_losses(self, batch: Batch) -> dict[Role, TokenLosses]:
        """Per role of the objective, the policy's and the reference's losses on its answers."""
        return self._batch_loss.token_losses(self.policy, batch, self.reference)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        # `Trainer.fit(ckpt_path=...)` loads after `setup`, when the reference stands already.
        self._weights_loaded = self.reference is None
        return result
