"""Reads GGUF files, llama.cpp's format, by transformers' reader.

A quantised weight becomes the fp32 number that it stands for, so that the model computes what
llama.cpp would, up to its own rounding, and is trained and saved as any other.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from unlearning.errors import ConfigError
from unlearning.loading import load_config, load_pretrained, load_tokenizer

SUFFIX = ".gguf"


def is_gguf(name: str | Path) -> bool:
    """Whether a model's name is that of a GGUF file."""
    return Path(name).suffix.lower() == SUFFIX


def check_gguf(file: str | Path) -> int:
    """Checks that a GGUF file is there and whole, and that it can be read.

    Returns:
        How many tokens its tokenizer has; 0 where it holds none.

    Raises:
        ConfigError: naming what is wrong, or the extra that is not installed.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"No GGUF file at {path}. Give the file of a model.")
    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(
            f"{path} is read with the package gguf, which is not installed: pip install "
            "'unlearning[gguf]'."
        )
    return _num_tokens(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _num_tokens(path: Path, _modified: int) -> int:
    """Reads the header, which takes seconds where a vocabulary is large."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ConfigError(
            f"{path} ({path.stat().st_size} bytes) is no GGUF file, or was cut short: {error}. "
            "Copy or download it again."
        ) from error
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    return 0 if tokens is None else len(tokens.data)


def load_gguf(file: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Loads the model of a GGUF file with its weights dequantised.

    Raises:
        ConfigError: from `check_gguf`; transformers cannot read this architecture; or weights are
            missing.
    """
    check_gguf(file)
    with _alone(file) as where:
        model: PreTrainedModel = load_pretrained(
            "AutoModelForCausalLM", where, dtype=dtype, gguf_file=_NAME
        )
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # else it could not be saved
        quantizer.remove_quantization_config(model)
    model.name_or_path = model.config._name_or_path = str(file)
    return model


def load_gguf_tokenizer(file: str | Path) -> Any:
    """Loads the tokenizer of a GGUF file.

    Raises:
        ConfigError: from `check_gguf`; or it holds none that transformers can read.
    """
    number = check_gguf(file)
    if not number:
        raise ConfigError(f"{file} holds no tokenizer. Name one: model.tokenizer=<hub id, folder>.")
    with _alone(file) as where:
        found = load_tokenizer(where, gguf_file=_NAME)
    return found if len(found) == number else _without_additions(found, number)


def _without_additions(tokenizer: Any, number: int) -> Any:
    """Drops the tokens that the reader adds to those of the file: the model does not embed them.

    It takes GPT-2's `<|endoftext|>` for a token of every byte-level tokenizer.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    described["added_tokens"] = [t for t in described["added_tokens"] if t["id"] < number]
    backend = Tokenizer.from_str(json.dumps(described))
    known = backend.get_vocab()
    given = tokenizer.special_tokens_map.items()
    special = {n: t for n, t in given if isinstance(t, str) and t in known}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=tokenizer.chat_template, **special
    )


def gguf_config(file: str | Path) -> Any:
    """Loads the configuration of a GGUF file's model.

    Raises:
        ConfigError: from `check_gguf`; or transformers cannot read this architecture.
    """
    check_gguf(file)
    return copy.deepcopy(_config(Path(file), Path(file).stat().st_mtime_ns))


@lru_cache(maxsize=4)
def _config(path: Path, _modified: int) -> Any:
    with _alone(path) as where:
        return load_config(where, gguf_file=_NAME)


_NAME = f"model{SUFFIX}"


@contextmanager
def _alone(file: str | Path) -> Iterator[str]:
    """A folder with nothing but this file: beside it may lie files of other models."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _NAME).symlink_to(Path(file).resolve())
        try:
            yield folder
        except ConfigError as error:
            raise ConfigError(str(error).replace(folder, str(file))) from error
