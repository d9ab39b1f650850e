"""Rows of the chosen length hold every tree, and cost no more than rows of the longest one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning.data.layout import (
    TYPICAL_WIDTH,
    Answer,
    Tree,
    best_capacity,
    make_batch,
    pack,
    tree_mask,
)

lengths = st.lists(st.integers(1, 60), max_size=25)
two_groups = st.tuples(lengths, lengths).filter(any)
ids = st.lists(st.integers(2, 99), min_size=1, max_size=6).map(tuple)


def trees_of(group: list[int]) -> list[Tree]:
    return [Tree((0,) * n, (Answer("forget", 0, (1,)),)) for n in group]


def cost_of(groups: list[list[Tree]], capacity: int) -> float:
    rows = sum(len(pack(trees, capacity)) for trees in groups)
    return rows * capacity * (1 + capacity / (3 * TYPICAL_WIDTH))


@given(two_groups)
def test_every_tree_once_within_capacity_and_no_dearer_than_rows_of_the_longest(both):
    groups = [trees_of(group) for group in both]
    capacity = best_capacity(groups)
    for trees in groups:
        rows = pack(trees, capacity)
        assert sorted(id(t) for row in rows for t in row) == sorted(map(id, trees))
        assert all(sum(tree.length for tree in row) <= capacity for row in rows)
    longest = max(tree.length for trees in groups for tree in trees)
    assert cost_of(groups, capacity) <= cost_of(groups, longest)


@given(two_groups)
def test_no_length_that_is_tried_is_cheaper(both):
    """Every one of them packed; the search leaves out those that cannot be the best."""
    groups = [trees_of(group) for group in both if group]
    lengths = [tree.length for trees in groups for tree in trees]
    total, longest = sum(lengths), max(lengths)
    tried = {
        min(math.ceil(max(longest, -(-total // rows)) * slack), total)
        for rows in range(1, len(lengths) + 1)
        for slack in (1, 1.03, 1.06, 1.1, 1.15)
    }
    least = min(cost_of(groups, capacity) for capacity in tried)
    assert cost_of(groups, best_capacity(groups)) == pytest.approx(least)


@pytest.mark.parametrize(
    ("lengths", "best"),
    [
        # Rows of 80 are four, [60] [40 40] [40 40] [40 40]: 320 positions. Rows of 60 are seven.
        ([60, *[40] * 6], 80),
        # Two of 60 fill a row of 120; a row for each is as many positions and less attention.
        ([60, 60], 60),
        # One row of 70 has no pad; two of 60 have 50.
        ([60, 10], 70),
        # One row of 190 has no pad; three of 70 have 20, four of 60 have 50.
        ([60, 60, 60, 10], 190),
    ],
)
def test_capacity_by_hand(lengths, best):
    assert best_capacity([trees_of(lengths)]) == best


def test_groups_share_no_row():
    """Together 70 positions would do; apart, 60 and 10 take a row of 60 each."""
    assert best_capacity([trees_of([60]), trees_of([10])]) == 60


@given(st.lists(st.tuples(ids, st.lists(ids, min_size=1, max_size=4)), min_size=1, max_size=8))
def test_each_answer_is_predicted_from_what_stands_before_it_and_sees_no_other(drawn):
    trees = [
        Tree(prompt, tuple(Answer("forget", 10 * n + m, each) for m, each in enumerate(answers)))
        for n, (prompt, answers) in enumerate(drawn)
    ]
    batch = make_batch(trees, "tree", pad_token_id=1)
    rows, found = batch.rows, batch.answers["forget"]
    width = rows.input_ids.shape[1]
    wanted = {a.example: (tree.prompt_ids, a.ids) for tree in trees for a in tree.answers}
    assert sorted(found.examples) == sorted(wanted)
    for number, example in enumerate(found.examples):
        prompt, answer = wanted[example]
        mine = found.sequence == number
        assert tuple(found.targets[mine].tolist()) == answer
        row, last = divmod(int(found.loss_index[mine][-1]), width)
        seen = rows.attention_mask[row, 0, last]
        assert tuple(rows.input_ids[row, seen].tolist()) == prompt + answer[:-1]
        positions = rows.position_ids[row, seen].tolist()
        assert positions == [*range(len(prompt) + len(answer) - 1)]


@given(st.integers(1, 400), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_mask_is_what_it_says(trees, branches, seed):
    """Numbers of trees and branches that need one byte, and ones that need more."""
    draw = np.random.default_rng(seed)
    tree = torch.from_numpy(draw.integers(0, trees, (2, 30)).repeat(2, axis=1))
    branch = torch.from_numpy(draw.integers(0, branches, (2, 60)))
    mask = tree_mask(tree, branch)
    i, j = np.meshgrid(range(60), range(60), indexing="ij")
    for row in range(2):
        t, b = tree[row].numpy(), branch[row].numpy()
        expected = (j <= i) & (t[i] == t[j]) & ((b[j] == 0) | (b[i] == b[j]))
        assert (mask[row, 0].numpy() == expected).all()
