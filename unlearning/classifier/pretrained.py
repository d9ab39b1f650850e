"""Loads sequence-classification models by hub id or path; errors name the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel as Model
from transformers import PreTrainedTokenizerBase as Tokenizer

from unlearning.errors import ConfigError
from unlearning.loading import load_pretrained
from unlearning.loading import load_tokenizer as load_any_tokenizer
from unlearning.weight_files import MODEL_FILES, check_weight_files, is_absent

CLASSIFIER = "AutoModelForSequenceClassification"


def check_model_folder(name_or_path: str) -> None:
    """Checks that a local model folder is complete, without reading a weight.

    A name that is no folder here is taken for a hub id; only loading it can tell.

    Raises:
        ConfigError: no such path, or one that holds no configuration, no weights or damaged ones.
    """
    path = Path(name_or_path)
    if is_absent(name_or_path, "classifier"):
        return
    if not path.is_dir():
        raise ConfigError(
            f"classifier {name_or_path!r} is a file; expected a hub id or a folder that holds "
            f"config.json, a tokenizer and one of {', '.join(MODEL_FILES)}"
        )
    found = sorted(entry.name for entry in path.iterdir())
    if "config.json" not in found:
        raise ConfigError(
            f"classifier folder {name_or_path!r} has no config.json (it holds: {found}); "
            "give a folder written by save_pretrained"
        )
    check_weight_files(path)


def check_local_classifier(name_or_path: str, *, trained: bool = True) -> None:
    """Checks that a local folder holds every weight of its classifier, by names and shapes alone.

    Raises:
        ConfigError: as `load_classifier`, for a folder.
    """
    check_model_folder(name_or_path)
    if Path(name_or_path).is_dir():
        load_pretrained(
            CLASSIFIER, name_or_path, "classifier", new_head=not trained, device_map="meta"
        )


def load_classifier(name_or_path: str, *, trained: bool = True, **overrides: Any) -> Model:
    """Loads a sequence-classification model in fp32.

    transformers 5 loads the stored dtype, and a half-precision classifier neither trains with
    plain AdamW nor gives the same probabilities on every machine.

    Args:
        trained: refuse a checkpoint without its own classification head, which would be drawn at
            random; every score would then be noise. Set to False where it is about to be trained.
        overrides: configuration values, for example `num_labels`.

    Raises:
        ConfigError: the folder is incomplete or damaged, the hub cannot give the model, it would
            run code of its own, or weights are absent.
    """
    check_model_folder(name_or_path)
    loaded: Model = load_pretrained(
        CLASSIFIER, name_or_path, "classifier", new_head=not trained, dtype=torch.float32,
        **overrides,
    )  # fmt: skip
    return loaded


def load_tokenizer(name_or_path: str) -> Tokenizer:
    """Loads a tokenizer by hub id or local path.

    Raises:
        ConfigError: there is none.
    """
    tokenizer: Tokenizer = load_any_tokenizer(name_or_path)
    return tokenizer


def check_fit(model: Model, tokenizer: Tokenizer, max_length: int) -> None:
    """Checks that the model has embeddings for the tokenizer's output.

    Raises:
        ConfigError: the tokenizer has more tokens than the model, no padding token, or max_length
            is beyond the model's positions.
    """
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, the classifier's vocabulary "
            f"{embeddings.num_embeddings}; give the tokenizer that belongs to the model"
        )
    if tokenizer.pad_token_id is None:
        raise ConfigError("the classifier's tokenizer has no padding token; set its pad_token")
    positions = getattr(model.config, "max_position_embeddings", max_length)
    limit = min(positions, tokenizer.model_max_length)
    if max_length > limit:
        raise ConfigError(
            f"max_length={max_length} is beyond the classifier's {limit} positions; "
            f"set it to {limit} or less"
        )
