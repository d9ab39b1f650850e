"""Cuts plain text into token windows, for pretraining."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from unlearning.data.records.files import read_text
from unlearning.data.records.local import files_of_one_kind, list_folder
from unlearning.data.records.opening import existing_path
from unlearning.errors import ConfigError
from unlearning.types import TokenizedExample

__all__ = ["read_text", "text_files", "text_windows"]


def text_files(source: str | Path) -> list[Path]:
    """Lists a .txt file (also .gz, .xz or .zst), or all .txt files of a folder.

    Raises:
        ConfigError: there is none.
    """
    path = existing_path(source)
    if path is None:
        raise ConfigError(f"No text at {source}: give a .txt file or a folder that holds some.")
    return [path] if path.is_file() else files_of_one_kind(path, list_folder(path), (".txt",))


def text_windows(
    text: str, tokenizer: PreTrainedTokenizerBase, length: int
) -> list[TokenizedExample]:
    """Cuts a text into consecutive windows of `length` tokens, each after the start token; the last
    may be short.

    Args:
        length: tokens of a window, its start token included.

    Raises:
        ConfigError: no token fits beside the start token, or the tokenizer has none to start with.
    """
    if length < 2:
        raise ConfigError(
            f"Windows of {length} tokens hold no text beside the start token; take 2."
        )
    start = tokenizer.bos_token_id
    start = tokenizer.eos_token_id if start is None else start
    if start is None:
        raise ConfigError(
            "The tokenizer has neither a start nor an end token, and a window begins with one. Set "
            "its bos_token."
        )
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    windows = (tuple(ids[n : n + length - 1]) for n in range(0, len(ids), length - 1))
    return [TokenizedExample((start,), window) for window in windows]
