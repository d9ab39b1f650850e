"""Rows of the chosen length hold every tree, and cost no more than rows of the longest one."""

from __future__ import annotations

import numpy as np
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


def cost(groups: list[list[Tree]], capacity: int) -> float:
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
    assert cost(groups, capacity) <= cost(groups, longest)


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
