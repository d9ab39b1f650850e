"""`UnlearningModule`: trains a causal language model with a weighted unlearning objective."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.fsdp import check_sharded, is_sharded
from unlearning.losses import Reduction, TokenLosses
from unlearning.models.decoder import (
    CausalLM,
    check_head,
    tied_gradient,
    unwrap,
)
from unlearning.models.layers import check_layers, freeze_above
from unlearning.models.load import check_context, check_vocabulary
from unlearning.models.policy import prepare_policy
from unlearning.models.trained import choose_trained
from unlearning.models.trial import check_model, check_train_mode, why_no_tree_rows
from unlearning.objective import PAPER_TERMS, Objective
from unlearning.ranges import Count, Positive, Whole
from unlearning.reference import Mode, Reference
from unlearning.reference.choose import choose_reference
from unlearning.training.base import OptimizedModule
from unlearning.training.batch_loss import BatchLoss, BatchValues
from unlearning.training.optimizers import Schedule
from unlearning.training.settings import check_settings, plain_settings
from unlearning.training.step_rule import (
    Gradient,
    StepRule,
    TermGradients,
    make_rule,
    rule_settings,
    with_gradient,
)
from unlearning.types import Batch, Role

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
            Trained weights in fp16 or bf16 are cast to fp32 first; see `train_in_fp32`.
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
        trained: which weights are, by patterns of their names; see `choose_trained`. None is all,
            or with LoRA the adapter.
        rule: how the terms' gradients become a step, see `unlearning.training.step_rule`, or its
            `_target_` and arguments; None descends their weighted sum.

    Attributes:
        logs: names of what a subclass logs besides, each as `train/<name>`.

    Raises:
        ConfigError: for settings, models or data that do not fit together.
    """

    logs: tuple[str, ...] = ()

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
        learning_rate: Positive = 2e-6,
        optimizer_options: Mapping[str, Any] | None = None,
        schedule: Schedule = "linear",
        warmup_steps: Whole = 0,
        keep_dropout: bool = False,
        gradient_checkpointing: bool = False,
        chunk_size: Count | None = None,
        trained: Sequence[str] | None = None,
        rule: StepRule | Mapping[str, Any] | None = None,
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
                chunk_size=chunk_size, trained=trained, rule=rule_settings(rule),
            )
        )  # fmt: skip
        if model is None:
            raise ConfigError(
                "The checkpoint does not say which model it was trained from: give "
                "load_from_checkpoint(path, model=<the model before unlearning>)."
            )
        self.policy = prepare_policy(model, lora, keep_dropout, gradient_checkpointing)
        if trained is not None:
            choose_trained(self.policy, trained)
        check_model(self.policy)
        if not keep_dropout:
            check_train_mode(self.policy)
        check_head(self.policy)
        layers = list(self.objective.layers)
        check_layers(self.policy, layers)
        if not self.objective.uses_head:
            freeze_above(self.policy, layers)
        tied_gradient(self.policy)  # tried now, not in the first step
        self._batch_loss = BatchLoss(self.objective, reduction, chunk_size)
        self.rule = make_rule(rule)
        if self.rule is not None:
            self.rule.check(list(self.objective.terms))
        self.reference: Reference | None = None
        # In a tuple, the model is no submodule, hence in no checkpoint and no optimizer.
        self._reference_model = (reference_model,)
        self._weights_loaded = False

    # --- what it needs --------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        strategy = self.trainer.strategy
        if stage == "fit":
            check_sharded(strategy, self.hparams["reference"], optimizer=self.hparams["optimizer"])
            if is_sharded(strategy):
                self.check_split(vars(self))
            if self.rule is not None:
                self.rule.check_strategy(is_sharded(strategy), self.masters is not None)
        data = getattr(self.trainer, "datamodule", None)
        data = data if isinstance(data, UnlearningDataModule) else None
        if data is not None:
            self._check_data(data)
        if self.reference is None and self._needs_reference:
            self.to(strategy.root_device)
            with self.trainer.precision_plugin.forward_context():
                self.build_reference(data, is_sharded(strategy))
        if data is not None:
            data.forwards = self.forwards

    @property
    def forwards(self) -> list[set[Role]]:
        """The roles that each forward of a step reads, the policy's and the reference's; see
        `unlearning.data.parts`."""
        names = list(self.objective.terms)
        calls = [tuple(names)] if self.rule is None else self.rule.together(names)
        found: list[set[Role]] = []
        for part in map(self.objective.only, calls):
            found.append(part.roles)
            if self.reference is not None and self.reference.runs:
                found += [part.reference_roles, set[Role]().union(*part.reference_layers.values())]
        return found

    @classmethod
    def check_split(cls, settings: Mapping[str, Any]) -> None:
        """Checks that the method can work with weights that are split over ranks; a subclass that
        cannot overrides it.

        Args:
            settings: arguments of the method by name.

        Raises:
            ConfigError: naming what to take instead.
        """
        return None

    @property
    def _needs_reference(self) -> bool:
        return bool(self.objective.reference_roles or self.objective.reference_layers)

    def build_reference(
        self, data: UnlearningDataModule | None = None, sharded: bool = False
    ) -> None:
        """Builds the frozen reference from the policy as it is now; without a Trainer, the first
        call of `loss` does.

        Args:
            data: what is to be trained on, set up; a cached reference is computed for it.
            sharded: the policy will be split over ranks.

        Raises:
            ConfigError: the policy was trained already, or the mode does not serve these data.
        """
        if self._weights_loaded and self._reference_model[0] is None:
            raise ConfigError(
                "These weights come from a checkpoint, and the reference is the model before "
                "unlearning. To continue, build the module from that model and call "
                "Trainer.fit(..., ckpt_path=<the checkpoint>)."
            )
        self.reference = choose_reference(
            self.hparams["reference"], self.policy, self._reference_model[0], self.objective, data,
            self.hparams["cache_dir"], getattr(torch, self.hparams["reference_dtype"]), sharded,
        )  # fmt: skip
        log.info("reference: %s", type(self.reference).__name__)
        self._reference_model = (None,)  # the reference has it, or what it needs of it

    def _check_data(self, data: UnlearningDataModule) -> None:
        check_vocabulary(self.policy, data.tokenizer)
        if "mismatch" in self.objective.roles and data.mismatch_per_prompt == 0:
            raise ConfigError(
                "A term is on mismatch answers, and mismatch_per_prompt=0 draws none. Raise it, or "
                "leave the term out."
            )
        if "alternate" in self.objective.roles and data.alternate is None:
            raise ConfigError(
                "A term is on alternate answers, and there are none. Give "
                "UnlearningDataModule(alternate=...), data.alternate in a configuration."
            )
        check_context(self.policy, data.max_length)
        if data.layout == "tree" and (why := why_no_tree_rows(self.policy)):
            raise ConfigError(
                f"{type(unwrap(self.policy)).__name__} does not take tree rows: {why}. Use "
                "UnlearningDataModule(..., layout='padded')."
            )

    # --- what it does ---------------------------------------------------------------------------

    def loss(self, batch: Batch) -> BatchValues:
        """Computes the loss of a batch: `total` is what a step minimises, beside the terms it is
        made of.

        A subclass that is another method overrides this; `BatchValues(total)` is enough.
        """
        reference = self._reference_for(batch)
        if self.objective.roles < batch.answers.keys():
            batch = batch.only(self.objective.roles)  # without the rows that no term reads
        return self._batch_loss(self.policy, batch, reference, *self.head_memory())

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        of_rule: Mapping[str, Tensor] = {}
        if self.rule is None:
            values = self.loss(batch)
            total = values.total
        else:
            gradients = self.term_gradients(batch)
            step = self.rule.gradient(gradients)
            values = gradients.values
            total = with_gradient(values.total, gradients.parameters, step)
            of_rule = gradients.logged
        self._log(values, of_rule)
        return self.add_penalty(total)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.rule is not None:
            self.rule.step_done()

    def term_gradients(self, batch: Batch) -> TermGradients:
        """Returns a function from a term's name to the gradient of the weighted term on the
        batch."""
        reference = self._reference_for(batch)

        def compute(names: tuple[str, ...]) -> BatchValues:
            objective = self.objective.only(names)
            loss = BatchLoss(objective, self._batch_loss.reduction, self._batch_loss.chunk_size)
            tied = tied_gradient(self.policy)
            return loss(self.policy, batch.only(objective.roles), reference, tied=tied)

        named = {n: p for n, p in self.policy.named_parameters() if p.requires_grad}
        names, total = list(self.objective.terms), self.objective.total
        return TermGradients(named, compute, names, self._average, total)

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        self._log_heldout("validation", batch)

    def test_step(self, batch: Batch, batch_idx: int = 0) -> None:
        self._log_heldout("test", batch)

    def token_losses(self, batch: Batch) -> dict[Role, TokenLosses]:
        """Computes for each role of the objective the policy's and the reference's losses on its
        answers."""
        return self._batch_loss.token_losses(self.policy, batch, self._reference_for(batch))

    def _reference_for(self, batch: Batch) -> Reference | None:
        if self.reference is None and self._needs_reference:  # no Trainer has set it up
            self.build_reference()
        return self.reference

    # --- what it tells --------------------------------------------------------------------------

    def _log(self, values: BatchValues, further: Mapping[str, Tensor]) -> None:
        """Logs every term, weighted and not, every role's NLL of a token and what a rule has noted,
        with one collective for all of them.

        Ranks have equally many answers, so that a term is the mean of theirs; not equally many
        tokens, so that an NLL is a sum of theirs over a number of theirs.
        """
        parts = {"train/total": values.total.detach()}
        parts |= {f"train/{name}": value for name, value in further.items()}
        for name, value in values.terms.items():
            parts[f"train/{name}"] = value.detach()
            parts[f"train/{name}_weighted"] = self.objective.terms[name].weight * value.detach()
        nll = {f"train/nll_{role}": of.nll.detach() for role, of in values.tokens.items()}
        if self.trainer.world_size > 1:
            means = torch.stack([*parts.values()]) / self.trainer.world_size
            sums = [each.sum() for each in nll.values()]
            counts = means.new_tensor([len(each) for each in nll.values()])
            all_of_them = torch.cat([means, *(each[None] for each in sums), counts])
            torch.distributed.all_reduce(all_of_them)  # the strategy's own has a barrier before it
            means, of_token, counts = all_of_them.split([len(parts), len(nll), len(nll)])
            parts = dict(zip(parts, means.unbind(), strict=True))
            parts |= dict(zip(nll, (of_token / counts).unbind(), strict=True))
        else:
            parts |= {name: each.mean() for name, each in nll.items()}
        self.log_dict(parts, batch_size=1)

    def _log_heldout(self, name: str, batch: Batch) -> None:
        """Logs every term, and every role's NLL of a token, as means over the whole split."""
        values = self.loss(batch)
        for term, value in values.terms.items():
            sequences = batch.answers[self.objective.terms[term].roles[0]].num_sequences
            self.log_over_split(f"{name}/{term}", value, sequences)
        for role, of in values.tokens.items():
            self.log_over_split(f"{name}/nll_{role}", of.nll.mean(), len(of.nll))

    def _average(self, gradient: Gradient) -> Gradient:
        """Averages over the ranks."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            world = torch.distributed.get_world_size()
            for value in gradient.values():
                torch.distributed.all_reduce(value.div_(world))
        return gradient

    # --- what it keeps --------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.rule is not None:
            checkpoint["rule"] = self.rule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.rule is not None:
            self.rule.load_state_dict(checkpoint.get("rule", {}))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        # `Trainer.fit(ckpt_path=...)` loads after `setup`, when the reference stands already.
        self._weights_loaded = self.reference is None
        return result
