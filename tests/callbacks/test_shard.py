"""Shares and their order; `test_harm.py` runs it on two ranks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from unlearning.callbacks.shard import gather, shard


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_number_is_dealt_once_and_evenly(count, world):
    ranks = [SimpleNamespace(global_rank=rank, world_size=world) for rank in range(world)]
    shares = [list(shard(count, rank)) for rank in ranks]
    assert sorted(n for share in shares for n in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_results_come_in_the_order_of_their_numbers():
    assert gather({2: "c", 0: "a", 1: "b"}, SimpleNamespace(world_size=1)) == ["a", "b", "c"]
