"""Checks local models before any work: whole weight files, and a tokenizer of theirs beside them.

No weight is read: names and shapes stand in the files' headers.
"""

from __future__ import annotations

from pathlib import Path

from unlearning.errors import ConfigError
from unlearning.models.gguf import check_gguf, is_gguf
from unlearning.models.load import (
    check_local_model,
    check_vocabulary,
    has_tokenizer,
    load_tokenizer,
)


def is_here(name: str) -> bool:
    """Whether a model is a folder or a GGUF file, and not a hub id."""
    return Path(name).is_dir() or is_gguf(name)


def check_local(name: str, tokenizer: str | None = None, key: str = "model.name_or_path") -> None:
    """Checks a model and its tokenizer, as far as they are folders; a hub is not asked.

    Args:
        tokenizer: its name or folder; None is the model's own.
        key: of the configuration, which names the model.

    Raises:
        ConfigError: weights are missing, damaged or of another shape, the model would run code of
            its own, there is no tokenizer, or the two do not belong together.
    """
    try:
        model = check_local_model(name)
    except ConfigError as error:
        raise ConfigError(f"{key}={name}: {error}") from error
    where = tokenizer or name
    if is_gguf(where) and not check_gguf(where):
        raise ConfigError(
            f"{key}={name}: {where} holds no tokenizer. Name one: model.tokenizer=<hub id or "
            "folder>."
        )
    if not Path(where).is_dir():
        return
    if not has_tokenizer(where):
        raise ConfigError(
            f"{key}={name}: {where} holds no tokenizer. Save the model's there, or name one: "
            "model.tokenizer=<hub id or folder>."
        )
    try:
        loaded = load_tokenizer(where)
        if model is not None:
            check_vocabulary(model, loaded)
    except ConfigError as error:
        raise ConfigError(f"{key}={name}, tokenizer {where}: {error}") from error
