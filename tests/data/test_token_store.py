"""Tokens in a flat file: the sequences that went in, and how long they are."""

from __future__ import annotations

import copy
import pickle
from io import SEEK_END

import pytest

from unlearning.data.token_store import TokenStore, read_tokens, token_counts, write_tokens
from unlearning.types import TokenizedExample

SEQUENCES = [
    TokenizedExample((0, 50_271), (1,)),
    TokenizedExample((), (2**31 - 1, 3, 4)),
    TokenizedExample((5,), ()),
    TokenizedExample((), ()),
    TokenizedExample((6, 7), (8, 9, 10)),
]


@pytest.fixture
def written(tmp_path):
    def write(*blocks) -> tuple[TokenStore, int]:
        with (tmp_path / "tokens.bin").open("wb+") as file:
            write_tokens(file, blocks)
            return read_tokens(file)

    return write


@pytest.mark.parametrize("count", range(6))  # an odd number of tokens, too
def test_every_sequence_comes_back(written, count):
    found, truncated = written((SEQUENCES[:2][:count], 1), ([], 0), (SEQUENCES[2:count], 3))
    assert len(found) == count and list(found) == SEQUENCES[:count] and truncated == 4
    assert [found[n] for n in range(-count, 0)] == found[:] == SEQUENCES[:count]
    assert all(type(number) is int for s in found for number in (*s.prompt_ids, *s.response_ids))
    with pytest.raises(IndexError):
        found[count]


def test_counts_are_those_of_any_sequences(written):
    prompts, responses = token_counts(written((SEQUENCES, 0))[0])
    assert prompts.tolist() == [2, 0, 1, 0, 2] and responses.tolist() == [1, 3, 0, 0, 3]
    for found in (token_counts(SEQUENCES), token_counts(s for s in SEQUENCES)):
        assert [counts.tolist() for counts in found] == [prompts.tolist(), responses.tolist()]
    assert [len(counts) for counts in token_counts([])] == [0, 0]
    assert [len(counts) for counts in token_counts(written()[0])] == [0, 0]


def test_a_pickle_and_a_copy_hold_the_same(written):
    found, _ = written((SEQUENCES, 0))
    assert pickle.loads(pickle.dumps(found)) == SEQUENCES == copy.deepcopy(found)
    assert found != SEQUENCES[:4] and found != SEQUENCES[::-1]


def test_the_room_on_the_disk_is_what_is_said(tmp_path):
    with (tmp_path / "tokens.bin").open("wb") as file:
        write_tokens(file, [([TokenizedExample((1, 2), (3, 4))] * 1000, 0)])
        assert file.seek(0, SEEK_END) == 1000 * (4 * 4 + 16) + 4 * 8
