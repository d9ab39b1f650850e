from __future__ import annotations

import logging
import os

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, MambaConfig, OPTConfig

from unlearning.generation.batch_size import bytes_a_row, free_memory, in_batches, rows_that_fit

OPT = OPTConfig(
    num_hidden_layers=2, hidden_size=32, num_attention_heads=4, ffn_dim=64, vocab_size=96
)
LLAMA = LlamaConfig(
    num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=64, vocab_size=96,
)  # fmt: skip
GPT2 = GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=96)


def test_bytes_of_a_row_by_hand():
    """Three tokens read, two said."""
    cache = 2 * 2 * 4 * 8 * (3 + 2) * 4  # layers, keys and values, heads, their size, tokens, fp32
    logits = 96 * (4 + 4)
    activations = 3 * (6 * 32 + 2 * 64) * 4
    assert (cache, logits, activations) == (2560, 768, 3840)
    assert bytes_a_row(OPT, 3, 2) == 7168
    assert bytes_a_row(OPT, 3, 2, element=2) == 1280 + 96 * 6 + 1920
    assert bytes_a_row(LLAMA, 3, 2) == 7168 - 1280  # half as many heads are kept
    assert bytes_a_row(GPT2, 3, 2) == 7168 + 3 * 2 * 64 * 4  # its block is four times as wide


def test_a_model_without_heads_is_estimated_too():
    assert bytes_a_row(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=96), 3, 2) > 0


@pytest.mark.parametrize(
    ("free", "rows"),
    [(64_000, 32), (63_999, 16), (2_000, 1), (10, 1), (0, 1), (512_000, 256), (10**12, 256)],
)
def test_half_the_free_memory_is_used_and_rows_are_a_power_of_two(free, rows):
    assert rows_that_fit(1000, free) == rows


def test_free_memory_of_a_gpu_has_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 400))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 50)
    assert free_memory(torch.device("cuda")) == 120


@pytest.mark.parametrize(
    ("pages", "free"),
    [
        ({"SC_AVPHYS_PAGES": 10, "SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 8}, 80),
        ({"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 8}, 200),
        ({}, 2**31),
    ],
)
def test_free_memory_of_a_machine(monkeypatch, pages, free):
    monkeypatch.setattr(os, "sysconf_names", pages)
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert free_memory(torch.device("cpu")) == free


def test_batches_in_turn():
    seen: list[list[int]] = []
    in_batches([7, 5, 6, 4, 3], 2, seen.append)
    assert seen == [[7, 5], [6, 4], [3]]
    in_batches([], 2, seen.append)
    assert len(seen) == 3


def test_out_of_memory_halves_the_batch_and_each_number_is_worked_on_once(caplog):
    tried: list[list[int]] = []
    done: list[int] = []

    def work(numbers: list[int]) -> None:
        tried.append(numbers)
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("no more")
        done.extend(numbers)

    with caplog.at_level(logging.WARNING):
        in_batches(range(9), 8, work)
    assert [len(numbers) for numbers in tried] == [8, 4, 2, 2, 2, 2, 1]
    assert done == list(range(9))
    assert [record.getMessage() for record in caplog.records] == [
        "Out of GPU memory with 8 rows at once; going on with 4.",
        "Out of GPU memory with 4 rows at once; going on with 2.",
    ]


def test_where_not_even_one_fits_the_error_is_told():
    def work(_: list[int]) -> None:
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(range(3), 2, work)
