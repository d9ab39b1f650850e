"""Plain text: files, encodings, windows."""

from __future__ import annotations

import copy

import pytest

from unlearning.data.text import read_text, text_files, text_windows
from unlearning.errors import ConfigError


def test_files_of_a_folder_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in text_files(tmp_path)] == ["a.txt", "b.txt"]
    assert text_files(tmp_path / "a.txt") == [tmp_path / "a.txt"]


def test_no_text_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"\.txt"):
        text_files(tmp_path)


def test_a_wrong_encoding_names_the_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ConfigError, match="byte 0xe9 at position 3"):
        read_text(tmp_path / "a.txt")


def test_windows_hold_every_token_once(tokenizer):
    sentences = "the sun is hot , not cold . the sky is blue . two plus"
    words = sentences.split()
    windows = text_windows(" ".join(words), tokenizer, length=5)
    assert all(window.prompt_ids == (tokenizer.bos_token_id,) for window in windows)
    assert [len(window.response_ids) for window in windows] == [4, 4, 4, 3]
    joined = [token for window in windows for token in window.response_ids]
    assert joined == tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]


def test_windows_that_cannot_be_made(tokenizer):
    assert text_windows("", tokenizer, length=5) == []
    with pytest.raises(ConfigError, match="Windows of 1 tokens hold no text"):
        text_windows("the sun", tokenizer, length=1)
    nameless = copy.deepcopy(tokenizer)
    nameless.bos_token = None
    assert text_windows("the sun", nameless, 5)[0].prompt_ids == (tokenizer.eos_token_id,)
    nameless.eos_token = None
    with pytest.raises(ConfigError, match="neither a start nor an end token"):
        text_windows("the sun", nameless, length=5)
