"""Trains the harm classifier: one forward, one loss, one optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import BinaryAccuracy
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from unlearning.classifier.jigsaw import JIGSAW_LABELS
from unlearning.classifier.pretrained import load_classifier
from unlearning.classifier.scores import HarmScores
from unlearning.errors import ConfigError

NOT_MODEL_INPUTS = ("labels", "index")


def harm_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Computes the binary cross-entropy, mean over examples and labels, in fp32.

        -mean( y log sigmoid(z) + (1 - y) log(1 - sigmoid(z)) )

    Args:
        logits: [n, labels].
        targets: [n, labels], 0 or 1.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> round(harm_loss(logits, torch.tensor([[1.0, 0.0]])).item(), 4)  # log 2
        0.6931
    """
    return binary_cross_entropy_with_logits(logits.float(), targets.float())


class HarmClassifierModule(LightningModule):
    """Trains a sequence classifier with one logit per label; a text may have several labels or
    none.

    Paper settings (arXiv 2405.15152): BERT-base-uncased on Jigsaw's six labels, lr 5e-5, batch 32
    and 128 tokens (`JigsawDataModule`), 5 epochs (`Trainer(max_epochs=5)`, as `train_classifier`
    sets it), harmful where any label exceeds 0.5. AdamW's weight decay of 0.01 and the linear
    decay of the rate to 0 are customary for BERT (arXiv 1810.04805).

    Args:
        model: a Hugging Face sequence-classification model with one output per label, or the hub
            id or path of a model that gets such a head. A checkpoint does not hold the
            architecture: `load_from_checkpoint(path, model=...)` where an instance was given.
        warmup_steps: optimizer steps in which the rate rises from 0 to `lr`.
        threshold: a text counts as harmful where a label's probability exceeds it.

    Raises:
        ConfigError: the model's outputs are not one per label, or a setting is out of its range.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        labels: Sequence[str] = JIGSAW_LABELS,
        lr: float = 5e-5,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        labels = [str(label) for label in labels]  # plain, so that weights_only can load it
        if lr <= 0 or weight_decay < 0 or warmup_steps < 0 or not 0 < threshold < 1:
            raise ConfigError(
                f"lr={lr}, weight_decay={weight_decay}, warmup_steps={warmup_steps}, "
                f"threshold={threshold}: expected lr > 0, weight_decay >= 0, warmup_steps >= 0 "
                "and a threshold between 0 and 1"
            )
        self.save_hyperparameters(ignore=() if isinstance(model, str) else ("model",))
        self.labels = labels
        self.threshold = threshold
        self.model = _with_labels(model, labels)
        self.val_loss = MeanMetric()
        self.val_accuracy = BinaryAccuracy(threshold=threshold)
        self.test_metric = HarmScores(labels, threshold)
        self.test_scores: dict[str, Any] | None = None

    def on_fit_start(self) -> None:
        # from_pretrained returns eval mode and Lightning keeps it: dropout would stay off.
        self.model.train()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Computes logits [n, labels]."""
        logits: Tensor = self.model(**inputs).logits
        return logits

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name not in NOT_MODEL_INPUTS}
        logits: Tensor = self(**inputs)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = harm_loss(self._logits(batch), batch["labels"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["index"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = self._logits(batch)
        size = len(batch["index"])
        self.val_loss.update(harm_loss(logits, batch["labels"]), weight=size)
        self.val_accuracy.update(logits.float().sigmoid().amax(1), batch["labels"].amax(1).long())
        self.log("val/loss", self.val_loss, batch_size=size)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True, batch_size=size)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        probabilities = self._logits(batch).float().sigmoid()
        self.test_metric.update(probabilities, batch["labels"], batch["index"])

    def on_test_epoch_end(self) -> None:
        """Keeps the whole table in `test_scores`, and logs the figures on "any label"."""
        scores = self.test_metric.compute()
        self.test_metric.reset()
        self.test_scores = scores
        figures = {name: scores["any"][name] for name in ("accuracy", "precision", "recall", "f1")}
        # Every process computed the same value from the gathered rows; there is nothing to reduce.
        self.log_dict({f"test/{name}": value for name, value in figures.items()}, sync_dist=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Builds AdamW with a linear schedule; biases and norm weights do not decay."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"]
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
            optimizer, self.hparams["warmup_steps"], steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _with_labels(model: PreTrainedModel | str, labels: list[str]) -> PreTrainedModel:
    """Gives the model a head of one logit per label, and a configuration that says so.

    With `multi_label_classification`, any Hugging Face user of the saved folder applies the
    sigmoid that the model was trained with, for a single label too.
    """
    if isinstance(model, str):
        model = load_classifier(model, trained=False, num_labels=len(labels))
    if model.config.num_labels != len(labels):
        raise ConfigError(
            f"the model has {model.config.num_labels} outputs for {len(labels)} labels {labels}; "
            "build it with num_labels=len(labels)"
        )
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.config.problem_type = "multi_label_classification"
    return model
