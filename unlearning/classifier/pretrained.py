"""Loads sequence-classification models by hub id or path; errors name the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import PreTrainedModel as Model
from transformers import PreTrainedTokenizerBase as Tokenizer

from unlearning.errors import ConfigError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def check_model_folder(name_or_path: str) -> None:
    """Checks that a local model folder is complete, without reading a weight.

    A name that is no folder here is taken for a hub id; only loading it can tell.

    Raises:
        ConfigError: the path exists but holds no configuration or no weights.
    """
    path = Path(name_or_path)
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(
            f"classifier {name_or_path!r} is a file; expected a hub id or a folder that holds "
            f"config.json, a tokenizer and one of {', '.join(WEIGHT_FILES)}"
        )
    found = sorted(entry.name for entry in path.iterdir())
    if "config.json" not in found:
        raise ConfigError(
            f"classifier folder {name_or_path!r} has no config.json (it holds: {found}); "
            "give a folder written by save_pretrained"
        )
    if not any(name in found for name in WEIGHT_FILES):
        raise ConfigError(
            f"classifier folder {name_or_path!r} has no weights (it holds: {found}); expected one "
            f"of {', '.join(WEIGHT_FILES)}. Save the model again with save_pretrained"
        )


def load_classifier(name_or_path: str, *, trained: bool = True, **overrides: Any) -> Model:
    """Loads a sequence-classification model in fp32.

    transformers 5 loads the stored dtype, and a half-precision classifier neither trains with
    plain AdamW nor gives the same probabilities on every machine.

    Args:
        trained: refuse a checkpoint without its own classification head. transformers would draw
            a random head and only log it; every score would then be noise. Set to False where the
            head is about to be trained.
        overrides: configuration values, for example `num_labels`.

    Raises:
        ConfigError: the folder is incomplete, the hub cannot give the model, or the head is absent.
    """
    check_model_folder(name_or_path)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name_or_path, dtype=torch.float32, output_loading_info=True, **overrides
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"classifier {name_or_path!r} cannot be loaded as a sequence-classification model: "
            f"{error}\nGive a hub id that this machine can reach or a local folder."
        ) from error
    if trained and info["missing_keys"]:
        raise ConfigError(
            f"classifier {name_or_path!r} has no trained classification head (missing weights: "
            f"{sorted(info['missing_keys'])}); give a model fine-tuned for classification, or "
            "train one with train_classifier"
        )
    loaded: Model = model
    return loaded


def load_tokenizer(name_or_path: str) -> Tokenizer:
    """Loads a tokenizer by hub id or local path.

    Raises:
        ConfigError: there is none.
    """
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no tokenizer can be loaded from {name_or_path!r}: {error}\nGive a hub id that this "
            "machine can reach or a folder that holds tokenizer.json and tokenizer_config.json."
        ) from error
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
