"""Every part of a nested mapping by its path."""

from __future__ import annotations

from unlearning.nested import leaves, walk

TREE = {"a": {"b": 1, "c": {}}, "d": [2, {"e": None}], 3: []}


def test_all_that_lies_below_parents_first():
    assert list(walk(TREE)) == [
        ("a", {"b": 1, "c": {}}), ("a.b", 1), ("a.c", {}), ("d", [2, {"e": None}]), ("d[0]", 2),
        ("d[1]", {"e": None}), ("d[1].e", None), ("3", []),
    ]  # fmt: skip
    assert [path for path, _ in walk(TREE, lists=False)] == ["a", "a.b", "a.c", "d", "3"]
    assert [path for path, _ in walk(TREE["d"], "d")] == ["d[0]", "d[1]", "d[1].e"]
    assert list(walk("text")) == []


def test_leaves_have_nothing_below_them():
    assert list(leaves(TREE)) == [
        ("a.b", 1), ("a.c", {}), ("d[0]", 2), ("d[1].e", None), ("3", []),
    ]  # fmt: skip
    assert list(leaves(TREE, lists=False)) == [
        ("a.b", 1), ("a.c", {}), ("d", [2, {"e": None}]), ("3", []),
    ]  # fmt: skip
