"""Token sequences to Batches: tree rows that share a prompt, or padded rows.

A tree is one prompt (the trunk) with several answers (the branches):

    prompt | answer to forget | mismatch answer 1 | ... | mismatch answer K

Position ids restart after the prompt for every branch and the mask lets a branch see the prompt and
itself only, so each answer is computed as if it stood alone after the prompt, while the prompt is
computed once. Short trees share a row. The last token of a branch is not fed: nothing is predicted
from it. Padded rows hold one prompt and one answer each, for models that cannot take such a mask.
Both layouts give the same losses and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearning.types import AnswerTokens, Batch, Role, Rows, Sequence

Layout = Literal["tree", "padded"]

TYPICAL_WIDTH = 1024
SLACKS = (1, 1.03, 1.06, 1.1, 1.15)


@dataclass(frozen=True)
class Answer:
    """One answer to be scored.

    Args:
        role: what it is for.
        example: its number in its data set's training split.
        ids: its tokens.
    """

    role: Role
    example: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """A prompt with the answers that share it."""

    prompt_ids: tuple[int, ...]
    answers: tuple[Answer, ...]

    @property
    def length(self) -> int:
        """Positions it takes in a row."""
        return len(self.prompt_ids) + sum(len(answer.ids) - 1 for answer in self.answers)


def make_batch(
    trees: Sequence_[Tree],
    layout: Layout,
    pad_token_id: int,
    index: int = 0,
    retain_apart: bool = True,
) -> Batch:
    """Lay trees out in rows.

    Args:
        retain_apart: retain answers get rows of their own, the last ones, on which a reference can
            run alone. Where none runs, rows that mix them with others have fewer pads.

    Raises:
        ValueError: for an unknown layout, or a tree with an empty prompt or answer.
    """
    for tree in trees:
        if not tree.prompt_ids or not all(answer.ids for answer in tree.answers):
            raise ValueError("A prompt and each of its answers need at least one token.")
    if layout == "padded":
        trees = [Tree(tree.prompt_ids, (answer,)) for tree in trees for answer in tree.answers]
    elif layout != "tree":
        raise ValueError(f"Unknown layout {layout!r}; choose 'tree' or 'padded'.")
    retain = [tree for tree in trees if tree.answers[0].role == "retain"]
    others = [tree for tree in trees if tree.answers[0].role != "retain"]
    if layout == "padded":
        rows, retain_start = [[tree] for tree in others + retain], len(others)
    elif retain_apart:
        capacity = best_capacity([others, retain])
        first = pack(others, capacity)
        rows, retain_start = first + pack(retain, capacity), len(first)
    else:
        rows, retain_start = pack(trees, best_capacity([trees])), 0
    return _lay_out(rows, layout, pad_token_id, retain_start, index)


def padded_batch(
    groups: Iterable[tuple[Role, Iterable[tuple[int, Sequence]]]], pad_token_id: int
) -> Batch:
    """A Batch of padded rows from (role, [(example number, sequence), ...]) groups."""
    trees = [
        Tree(sequence.prompt_ids, (Answer(role, number, sequence.response_ids),))
        for role, sequences in groups
        for number, sequence in sequences
    ]
    return make_batch(trees, "padded", pad_token_id)


def pack(trees: Sequence_[Tree], capacity: int) -> list[list[Tree]]:
    """First-fit-decreasing: trees into as few rows of at most `capacity` positions as it finds."""
    order = sorted(range(len(trees)), key=lambda n: -trees[n].length)
    rows = _first_fit([trees[n].length for n in order], capacity)
    return [[trees[order[n]] for n in row] for row in rows]


def _first_fit(lengths: Sequence_[int], capacity: int) -> list[list[int]]:
    """Numbers of the lengths in each row."""
    rows: list[list[int]] = []
    free: list[int] = []
    for number, length in enumerate(lengths):
        for row, room in enumerate(free):
            if length <= room:
                rows[row].append(number)
                free[row] -= length
                break
        else:
            rows.append([number])
            free.append(capacity - length)
    return rows


def best_capacity(groups: Sequence_[Sequence_[Tree]]) -> int:
    """The row length at which a step costs least, each group packed into rows of its own.

    R rows of L positions cost a layer of width D about 24 R L D^2 products and 8 R L^2 D in its
    attention: longer rows have fewer pads and more attention. The D of `TYPICAL_WIDTH` decides; a
    wrong one costs little. Tried are lengths that would hold all trees in n rows without a pad, and
    some a little longer.
    """
    lengths = [sorted((tree.length for tree in group), reverse=True) for group in groups if group]
    longest, total = max(each[0] for each in lengths), sum(map(sum, lengths))
    fewest = max(1, total // (4 * TYPICAL_WIDTH))  # rows beyond that length are never worth it
    most = -(-total // longest) + len(groups)
    even = {max(longest, -(-total // rows)) for rows in range(fewest, most + 1)}
    tried = {min(math.ceil(length * slack), total) for length in even for slack in SLACKS}

    def cost(capacity: int) -> float:
        rows = sum(len(_first_fit(each, capacity)) for each in lengths)
        return rows * capacity * (1 + capacity / (3 * TYPICAL_WIDTH))

    return min(sorted(tried), key=cost)


@dataclass
class _Row:
    """One row under construction; `tree` 0 is padding, `branch` 0 a trunk."""

    ids: list[int]
    positions: list[int]
    tree: list[int]
    branch: list[int]


def _lay_out(
    rows: list[list[Tree]], layout: Layout, pad_token_id: int, retain_start: int, index: int
) -> Batch:
    width = max(sum(tree.length for tree in row) for row in rows)
    collected: dict[Role, _Collected] = {}
    built = []
    for number, row in enumerate(rows):
        built.append(_build_row(row, number * width, collected))
    shape = (len(rows), width)

    def padded(name: str, fill: int) -> Tensor:
        filled = torch.full(shape, fill, dtype=torch.int64)
        for number, row in enumerate(built):
            values = getattr(row, name)
            filled[number, : len(values)] = torch.tensor(values)
        return filled

    tree_RL = padded("tree", 0)
    mask = tree_mask(tree_RL, padded("branch", 0)) if layout == "tree" else tree_RL > 0
    tensors = Rows(padded("ids", pad_token_id), padded("positions", 0), mask)
    answers = {role: tokens.finish() for role, tokens in collected.items()}
    return Batch(tensors, answers, retain_start, index)


def tree_mask(tree_RL: Tensor, branch_RL: Tensor) -> Tensor:
    """[R, 1, L, L] bool: position i sees j where j is not later, of the same tree, and of its trunk
    or of the same branch. Padding sees padding, so that no row of the softmax is empty."""
    length = tree_RL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool).tril()
    same_tree = tree_RL[:, :, None] == tree_RL[:, None, :]
    reachable = (branch_RL[:, None, :] == 0) | (branch_RL[:, :, None] == branch_RL[:, None, :])
    return (causal_LL & same_tree & reachable)[:, None]


@dataclass
class _Collected:
    """The loss positions of one role, as they are met."""

    index: list[int]
    targets: list[int]
    sequence: list[int]
    examples: list[int]

    def finish(self) -> AnswerTokens:
        index, targets, sequence = map(torch.tensor, (self.index, self.targets, self.sequence))
        return AnswerTokens(index, targets, sequence, len(self.examples), tuple(self.examples))


def _build_row(trees: list[Tree], offset: int, collected: dict[Role, _Collected]) -> _Row:
    """Lay the trees of one row side by side; `offset` is the row's first flat index.

    The one place of the next-token shift and of the label mask: an answer's first token is
    predicted from the prompt's last position, every other from the answer token before it.
    """
    row = _Row([], [], [], [])

    def append(ids: Sequence_[int], first_position: int, tree: int, branch: int) -> None:
        row.ids.extend(ids)
        row.positions.extend(range(first_position, first_position + len(ids)))
        row.tree.extend([tree] * len(ids))
        row.branch.extend([branch] * len(ids))

    for number, tree in enumerate(trees, start=1):
        trunk = len(tree.prompt_ids)
        append(tree.prompt_ids, 0, number, 0)
        trunk_end = offset + len(row.ids) - 1
        for branch, answer in enumerate(tree.answers, start=1):
            start = offset + len(row.ids)
            append(answer.ids[:-1], trunk, number, branch)
            role = collected.setdefault(answer.role, _Collected([], [], [], []))
            role.index.extend([trunk_end, *range(start, start + len(answer.ids) - 1)])
            role.targets.extend(answer.ids)
            role.sequence.extend([len(role.examples)] * len(answer.ids))
            role.examples.append(answer.example)
    return row
