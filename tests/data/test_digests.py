"""Digests in an array: as exact as the texts, and ordered as their hashes."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from unlearning.data.digests import SIZE, Digests, contained, digests, firsts

TEXTS = [str(n) for n in range(3000)]


def test_they_are_the_hashes_and_sort_like_them():
    expected = [hashlib.sha256(text.encode()).digest() for text in TEXTS]
    found = digests(iter(TEXTS))
    assert np.array_equal(found, digests(TEXTS, len(TEXTS)))
    assert found.nbytes == SIZE * len(TEXTS)
    assert found.tobytes() == b"".join(whole[:SIZE] for whole in expected)
    order = sorted(range(len(TEXTS)), key=lambda n: expected[n])
    assert np.argsort(found, kind="stable").tolist() == np.lexsort((found,)).tolist() == order


def of_bytes(*content: bytes) -> Digests:
    return np.frombuffer(b"".join(part.ljust(SIZE, b"\1") for part in content), f"S{SIZE}")


def test_bytes_of_nought_and_above_127_count():
    """numpy's strings end at a nought; at a fixed length that loses nothing."""
    ends = [b"\0" * SIZE, b"\0" * (SIZE - 1) + b"\1", b"\1" + b"\0" * (SIZE - 1), b"\x80", b"\xff"]
    found = of_bytes(*ends)
    assert np.argsort(found[::-1]).tolist() == [4, 3, 2, 1, 0]
    assert len(np.unique(found)) == 5
    assert contained(found[:2], found[1:].copy()).tolist() == [False, True]


def test_the_first_of_each_in_order():
    draw = random.Random(0)
    texts = [str(draw.randrange(50)) for _ in range(400)]
    first = {text: n for n, text in reversed(list(enumerate(texts)))}
    assert firsts(digests(texts)).tolist() == sorted(first.values())
    assert firsts(digests([])).tolist() == []


def test_what_is_contained():
    wanted, among = digests(["a", "z", "a", "q"]), digests(["q", "b", "a"])
    assert contained(wanted, among).tolist() == [True, False, True, True]
    assert contained(wanted, digests([])).tolist() == [False] * 4
    assert contained(digests([]), among).tolist() == []
