"""Trains a harm classifier, and saves it as a Hugging Face folder with its held-out scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from transformers import PreTrainedTokenizerBase

from unlearning.classifier.jigsaw import JigsawDataModule
from unlearning.classifier.module import HarmClassifierModule
from unlearning.classifier.pretrained import check_fit, load_tokenizer
from unlearning.errors import ConfigError
from unlearning.files.atomic import atomic_write, write_json

SCORES_FILE = "scores.json"

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 5,  # arXiv 2405.15152
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}


def train_classifier(
    module_kwargs: Mapping[str, Any],
    datamodule: JigsawDataModule,
    output: Path,
    trainer_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a classifier, scores it on the test part, and saves it.

    Args:
        module_kwargs: arguments of `HarmClassifierModule`; the labels are the data module's.
        datamodule: without a tokenizer it gets that of `module_kwargs["model"]`, if that is a name.
        output: folder to make: safetensors, tokenizer and `scores.json`. It appears complete or not
            at all.
        trainer_kwargs: arguments of `lightning.Trainer`, over `TRAINER_DEFAULTS`.

    Returns:
        What `scores.json` holds: `harm_scores` on the test part, the numbers of comments and the
        data's fingerprint.

    Raises:
        ConfigError: the output exists, there is no tokenizer, or tokenizer and model disagree.
    """
    if output.exists():
        raise ConfigError(f"{output} exists and is never overwritten; name another or remove it")
    module = HarmClassifierModule(**{"labels": datamodule.labels, **module_kwargs})
    if tuple(module.labels) != datamodule.labels:
        raise ConfigError(
            f"module labels {module.labels} differ from the data's {datamodule.labels}"
        )
    tokenizer = _tokenizer(module, datamodule, module_kwargs["model"])
    trainer = Trainer(**{**TRAINER_DEFAULTS, **(trainer_kwargs or {})})
    with warnings.catch_warnings():
        # Short comments tokenise faster than worker processes start, and the data set is small.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Raised inside lightning by newer versions of torch.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        trainer.fit(module, datamodule=datamodule)
        trainer.test(module, datamodule=datamodule, verbose=False)
    assert module.test_scores is not None
    scores = {
        **module.test_scores,
        "comments": {p: len(datamodule.comments(p)) for p in ("train", "validation", "test")},
        "data_fingerprint": datamodule.fingerprint(),
    }
    if trainer.is_global_zero:
        _save(module, tokenizer, scores, output)
    trainer.strategy.barrier("classifier saved")
    return scores


def _tokenizer(
    module: HarmClassifierModule, datamodule: JigsawDataModule, model: Any
) -> PreTrainedTokenizerBase:
    """Loads the data module's tokenizer, and checks it against the model."""
    name = datamodule.tokenizer
    if name is None and isinstance(model, str):
        name = model
    if name is None:
        raise ConfigError("the data module has no tokenizer; set `datamodule.tokenizer` first")
    tokenizer = load_tokenizer(name) if isinstance(name, str) else name
    check_fit(module.model, tokenizer, datamodule.max_length)
    datamodule.tokenizer = tokenizer
    return tokenizer


def _save(
    module: HarmClassifierModule,
    tokenizer: PreTrainedTokenizerBase,
    scores: Mapping[str, Any],
    output: Path,
) -> None:
    """Saves the classifier atomically, so that an interrupted save leaves no half a model."""
    with atomic_write(output) as aside:
        module.model.train(False)
        module.model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        write_json(aside / SCORES_FILE, scores)
