"""LoKU, arXiv 2408.06621: LoRA that starts from the weights that the forget answers need.

    F    = mean over sequences of (d NLL / d W)^2           of forget and of retain answers
    d_i  = sqrt(sum_j F_forget[i, j] / (F_retain[i, j] + floor))          importance of row i of W
    s B A = the matrix of rank r nearest to W in the norm | diag(d) (W - s B A) |      (FILA)
    W    <- W - s B A                                       so that the model is what it was

With diag(d) W = U S V^T, A = (S / s)^1/2 V^T and B = diag(d)^-1 U (S / s)^1/2, which is
W V (S s)^-1/2: no division by an importance near 0. The forget loss of the paper is the inverted
hinge (`unlearning.methods.ihl`).

F is the mean of squares of each sequence's gradient, as the empirical Fisher information is; the
authors' code squares the gradient of a batch's mean, which depends on the batch size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.layout import Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.models.adapter import merge_adapter
from unlearning.models.decoder import CausalLM, evaluating, frozen_copy, is_eight_bit
from unlearning.module import UnlearningModule
from unlearning.objective import Objective
from unlearning.ranges import Count, Positive
from unlearning.training.batch_loss import BatchLoss
from unlearning.types import Batch, Role

log = logging.getLogger(__name__)
STATE = "loku"
Factors = dict[str, tuple[Tensor, Tensor]]
"""A [r, in] and B [out, r] of the adapter by the name of its layer."""

LOKU_TERMS: dict[str, dict[str, Any]] = {
    "forget": {
        "loss": "unlearning.methods.ihl.inverted_hinge",
        "role": "forget",
        "weight": 1.0,
    },
    "retain": {"loss": "unlearning.losses.nll", "role": "retain", "weight": 1.0},
}


class LoKU(UnlearningModule):
    """Trains a LoRA adapter that starts as the part of the weights that matters to the forget
    answers, taken out of the weights beneath.

    Made before the first step, from as many gradients as there are answers; it holds two matrices
    of each adapted weight's size then. A checkpoint has the factors that were taken out. At the end
    of the training the adapter is merged, since it belongs to no model but this one.

    The reference is the model before. As its weights change, it cannot be had by switching the
    adapter off: `auto` is cached or copy here.

    Args:
        model: see `UnlearningModule`, as for all other arguments; `lora` has to be given, with
            dropout 0.
        fisher_examples: forget answers on which the importance is measured, the training's first
            ones, and as many retain answers; None takes as many as the forget set has.
        floor: added to the retain answers' F.
        terms: `LOKU_TERMS`, or others.

    Raises:
        ConfigError: for settings that make no sense; from the start of the training, without an
            `UnlearningDataModule`, or with weights in bf16 or 8 bits or split over ranks.
    """

    def __init__(
        self,
        model: CausalLM | str,
        lora: Mapping[str, Any] | None = None,
        fisher_examples: Count | None = None,
        floor: Positive = 1e-5,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if lora is None or lora.get("kind", "lora") != "lora" or lora.get("dropout") != 0:
            raise ConfigError(
                f"LoKU starts a LoRA adapter as a part of the weights, which must not be dropped: "
                f"lora={lora}, expected kind=lora and dropout=0 (model.lora.dropout=0)."
            )
        if settings.get("reference") == "adapter_off":
            raise ConfigError(
                "LoKU changes the weights under the adapter, so that reference=adapter_off is "
                "another model. Take auto, cached or copy."
            )
        if not floor > 0 or (fisher_examples is not None and fisher_examples < 1):
            raise ConfigError(
                f"LoKU: floor={floor} must be above 0 and fisher_examples={fisher_examples} at "
                "least 1."
            )
        super().__init__(model, LOKU_TERMS if terms is None else terms, lora, **settings)
        self.fisher_examples, self.floor = fisher_examples, floor
        self.initial: Factors | None = None  # what was taken out of the weights
        if is_eight_bit(self.policy):
            raise ConfigError("LoKU changes the weights, which 8 bits cannot: eight_bit=false.")
        rank = max(layer.r["default"] for layer in self._layers().values())
        narrow = min(min(base_weight(layer).shape) for layer in self._layers().values())
        if rank > narrow:
            raise ConfigError(
                f"LoKU: an adapted weight has rank {narrow} at most, below lora's r={rank}."
            )

    def _layers(self) -> dict[str, Linear]:
        found = {n: m for n, m in self.policy.named_modules() if isinstance(m, Linear)}
        adapted = [n for n, _ in self.policy.named_parameters() if ".lora_A." in n]
        if len(found) != len(adapted):
            raise ConfigError(
                "LoKU starts adapters of linear layers, and this one has others: choose the "
                "adapter's target_modules (model.lora.target_modules)."
            )
        return found

    # --- before the first step ------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if stage == "fit" and not isinstance(self.policy, PeftModel):
            raise ConfigError("LoKU was trained, and its adapter merged; build the module anew.")
        super().setup(stage)
        if stage == "fit" and self.masters is not None:
            raise ConfigError(
                "LoKU takes a part out of the weights, which must be in fp32 for it. Take "
                "precision=bf16-mixed or 32-true."
            )

    @classmethod
    def check_split(cls, settings: Mapping[str, Any]) -> None:
        raise ConfigError(
            "LoKU takes a part out of the weights, which must be whole for it, and here each "
            "device has a part of them. Take trainer=ddp."
        )

    def build_reference(
        self, data: UnlearningDataModule | None = None, sharded: bool = False
    ) -> None:
        if self.hparams["reference"] == "auto" and not self._weights_loaded:
            (given,) = self._reference_model
            # Of another model than the policy, `auto` never takes the policy itself.
            self._reference_model = (frozen_copy(self.policy) if given is None else given,)
        super().build_reference(data, sharded)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.initial is not None:  # of the checkpoint that is resumed
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, UnlearningDataModule):
            raise ConfigError(
                "LoKU measures what matters on an UnlearningDataModule's answers. Give one to "
                "Trainer.fit, or call initialise(batches) first."
            )
        number = self.fisher_examples or len(data.sequences["forget"])
        log.info("LoKU: importance of the weights, on %d forget and retain answers", number)
        with self.trainer.precision_plugin.forward_context():
            self.initialise(batch.to(self.device) for batch in single_answers(data, number))

    def initialise(self, batches: Iterable[Batch]) -> None:
        """Starts the adapter from the forget and retain answers of batches.

        Raises:
            ConfigError: it was started already, or the batches lack answers of one of the roles.
        """
        if self.initial is not None:
            raise ConfigError("LoKU: the adapter was started already; build the module anew.")
        if self.reference is None and self._needs_reference:
            self.build_reference()  # while the weights are untouched
        forget, retain = self.fisher(batches)
        factors: Factors = {}
        for name, layer in self._layers().items():
            importance_O = (forget.pop(name) / (retain.pop(name) + self.floor)).sum(1).sqrt()
            rank, scale = layer.r["default"], layer.scaling["default"]
            found = weighted_factors(base_weight(layer), importance_O, rank, scale)
            factors[name] = (found[0].cpu(), found[1].cpu())  # where every rank can read them
        if self._trainer is not None:
            factors = self.trainer.strategy.broadcast(factors)  # the same bits on every rank
        with torch.no_grad():
            for name, layer in self._layers().items():
                for side, factor in zip((layer.lora_A, layer.lora_B), factors[name], strict=True):
                    side["default"].get_parameter("weight").copy_(factor)
        self._take_out(factors)

    def fisher(self, batches: Iterable[Batch]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Computes the mean square of each sequence's gradient by the adapted weights, of forget
        and of retain answers over all ranks: by layer, [out, in]. A rank may have none of them."""
        layers = self._layers().items()
        weights = {name: layer.get_base_layer().get_parameter("weight") for name, layer in layers}
        roles: tuple[Role, Role] = ("forget", "retain")
        found = {r: {n: torch.zeros_like(w) for n, w in weights.items()} for r in roles}
        counts = dict.fromkeys(roles, 0)
        _require_grad(weights, True)
        with evaluating(self.policy), torch.enable_grad():
            for batch in batches:
                for role in roles:
                    for loss in self._sequence_losses(batch, role) if role in batch.answers else ():
                        gradients = torch.autograd.grad(
                            loss, list(weights.values()), retain_graph=True
                        )
                        for name, gradient in zip(weights, gradients, strict=True):
                            found[role][name].addcmul_(gradient, gradient)
                        counts[role] += 1
        _require_grad(weights, False)
        device = next(iter(weights.values())).device
        share: dict[str, Tensor] = {
            role: torch.tensor(float(n), device=device) for role, n in counts.items()
        }
        a_rank = {role: float(mean) for role, mean in self._average(share).items()}
        if 0 in a_rank.values():
            raise ConfigError(f"LoKU needs forget and retain answers; the batches have {counts}.")
        for role in roles:
            for name, layer in self._layers().items():
                mean = self._average({name: found[role].pop(name)})[name].div_(a_rank[role])
                found[role][name] = mean.T if layer.fan_in_fan_out else mean
        return found["forget"], found["retain"]

    def _sequence_losses(self, batch: Batch, role: Role) -> Tensor:
        """Computes the mean NLL of each sequence of a role, [S]."""
        only = Objective({role: {"loss": "unlearning.losses.nll", "role": role}})
        compute = BatchLoss(only, chunk_size=self._batch_loss.chunk_size)
        tokens = compute.token_losses(self.policy, batch.only({role}), None)[role]
        return tokens.per_sequence(tokens.nll, "mean")

    @torch.no_grad()
    def _take_out(self, factors: Factors) -> None:
        self.initial = {name: (a.cpu(), b.cpu()) for name, (a, b) in factors.items()}
        for name, layer in self._layers().items():
            a, b = self.initial[name]  # on the CPU: a resumed run subtracts the same bits
            weight = base_weight(layer)
            weight.sub_((layer.scaling["default"] * (b @ a)).to(weight))

    # --- at the end, and what it keeps ----------------------------------------------------------

    def on_fit_end(self) -> None:
        super().on_fit_end()
        if isinstance(self.policy, PeftModel):
            self.policy = merge_adapter(self.policy)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.policy, PeftModel):
            checkpoint[STATE] = self.initial

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        factors = checkpoint.get(STATE)
        if factors is None:
            return
        if self.initial is not None:
            raise ConfigError("LoKU: the adapter was started already; build the module anew.")
        self._take_out(factors)


def single_answers(data: UnlearningDataModule, number: int) -> Iterator[Batch]:
    """Yields this rank's of the training's first so many forget and so many retain answers, each
    alone with its prompt: its gradient then costs no more than that. All ranks together have the
    answers that one process has."""
    rank, world, _ = data.world()
    sizes: dict[Role, int] = {"forget": data.batch_size, "retain": data.retain_batch_size}
    for n in count():
        position = {role: (n * world + rank) * size for role, size in sizes.items()}
        if min(position.values()) >= number:
            return
        for tree in data.trees_at(n):
            for answer in tree.answers:
                if answer.role not in position:
                    continue
                if position[answer.role] < number:
                    alone = Tree(tree.prompt_ids, (answer,))
                    yield make_batch([alone], data.layout, data.pad_token_id)
                position[answer.role] += 1


def base_weight(layer: Linear) -> Tensor:
    """Returns the weight under an adapter as [out, in], a view of it."""
    weight = layer.get_base_layer().get_parameter("weight").detach()
    return weight.T if layer.fan_in_fan_out else weight


def weighted_factors(
    weight_OI: Tensor, importance_O: Tensor, rank: int, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Computes A [r, in] and B [out, r], whose product times `scale` is the matrix of this rank
    nearest to the weight, each row's distance weighted by its importance.

    Examples:
        >>> weight = torch.diag(torch.tensor([1.0, 2.0]))
        >>> a, b = weighted_factors(weight, torch.tensor([3.0, 1.0]), rank=1)
        >>> (b @ a).abs().round(decimals=4)  # the first row is the more important
        tensor([[1., 0.],
                [0., 0.]])
    """
    weighted = importance_O[:, None] * weight_OI
    _, values, rows = torch.linalg.svd(weighted, full_matrices=False)
    values, rows = values[:rank], rows[:rank]
    a = (values / scale).sqrt()[:, None] * rows
    some = values > torch.finfo(values.dtype).eps * max(weight_OI.shape) * values.max()
    inverse = torch.where(some, (values * scale).rsqrt(), 0.0)
    return a, (weight_OI @ rows.T) * inverse


def _require_grad(weights: Mapping[str, nn.Parameter], value: bool) -> None:
    for weight in weights.values():
        weight.requires_grad_(value)
