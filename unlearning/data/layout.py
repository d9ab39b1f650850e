"""Lays token sequences out in Batches: tree rows that share a prompt, or padded rows.

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
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from operator import neg
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearning.data.parts import RETAIN_APART, Forwards, split_trees
from unlearning.types import AnswerTokens, Batch, Role, Rows, TokenizedExample

Layout = Literal["tree", "padded"]
Ints = NDArray[np.int64]

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
    number: int = 0  # of its prompt in the batch

    def only(self, which: Iterable[bool]) -> Tree:
        """Returns the prompt with some of its answers."""
        return replace(self, answers=tuple(compress(self.answers, which)))

    @cached_property
    def length(self) -> int:
        """Positions it takes in a row."""
        return len(self.prompt_ids) + sum(len(answer.ids) - 1 for answer in self.answers)


def make_batch(
    trees: Sequence[Tree],
    layout: Layout,
    pad_token_id: int,
    index: int = 0,
    forwards: Forwards = RETAIN_APART,
) -> Batch:
    """Lays trees out in the rows of a Batch.

    Args:
        forwards: roles that each forward of a step reads, see `unlearning.data.parts`: `only` of
            these has no rows but theirs. Every answer is in the batch all the same.

    Raises:
        ValueError: for an unknown layout, or a tree with an empty prompt or answer.

    Examples:
        >>> tree = Tree((5, 6), (Answer("forget", 0, (7, 2)), Answer("mismatch", 3, (8, 9, 2))))
        >>> batch = make_batch([tree], "tree", pad_token_id=1)
        >>> batch.rows.input_ids.tolist(), batch.rows.position_ids.tolist()
        ([[5, 6, 7, 8, 9]], [[0, 1, 2, 2, 3]])
        >>> batch.answers["mismatch"].targets.tolist()
        [8, 9, 2]
        >>> batch.answers["mismatch"].loss_index.tolist()  # 8: after the prompt
        [1, 3, 4]
    """
    for tree in trees:
        if not tree.prompt_ids or not all(answer.ids for answer in tree.answers):
            raise ValueError("A prompt and each of its answers need at least one token.")
    trees = [replace(tree, number=number) for number, tree in enumerate(trees)]
    if layout == "padded":
        trees = [replace(tree, answers=(answer,)) for tree in trees for answer in tree.answers]
    elif layout == "tree":
        # Pads see pads alone there. The pad token's embedding may be all zeros, and the norm of a
        # hidden state of zeros has no gradient (Gemma 3n takes one): any other token does.
        pad_token_id = trees[0].prompt_ids[0]
    else:
        raise ValueError(f"Unknown layout {layout!r}; choose 'tree' or 'padded'.")
    read, unread = split_trees(trees, forwards)
    rows: list[list[Tree]] = []
    widths: list[int] = []
    for parts in filter(None, (read, unread)):  # the rows of either are of one length
        if layout == "padded":
            found = [[tree] for part in parts for tree in part]
        else:
            capacity = best_capacity(parts)
            found = [row for part in parts for row in pack(part, capacity)]
        rows += found
        widths += [max(map(_fed, found))] * len(found)
    return _lay_out(rows, widths, layout, pad_token_id, index)


def _fed(row: Sequence[Tree]) -> int:
    return sum(tree.length for tree in row)


def padded_batch(
    groups: Iterable[tuple[Role, Iterable[tuple[int, TokenizedExample]]]], pad_token_id: int
) -> Batch:
    """Makes a Batch of padded rows from (role, [(example number, sequence), ...]) groups."""
    trees = [
        Tree(sequence.prompt_ids, (Answer(role, number, sequence.response_ids),))
        for role, sequences in groups
        for number, sequence in sequences
    ]
    return make_batch(trees, "padded", pad_token_id)


def pack(trees: Sequence[Tree], capacity: int) -> list[list[Tree]]:
    """Packs trees into few rows of at most `capacity` positions, by first-fit-decreasing.

    Examples:
        >>> trees = [Tree(tuple(range(n)), (Answer("forget", 0, (7,)),)) for n in (2, 5, 3, 4)]
        >>> [[tree.length for tree in row] for row in pack(trees, capacity=7)]
        [[5, 2], [4, 3]]
    """
    order = sorted(range(len(trees)), key=lambda n: -trees[n].length)
    rows = _first_fit([trees[n].length for n in order], capacity)
    return [[trees[order[n]] for n in row] for row in rows]


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns the numbers of the lengths in each row."""
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


def best_capacity(groups: Sequence[Sequence[Tree]]) -> int:
    """Returns the row length at which a step costs least, each group packed into rows of its own.

    R rows of L positions cost a layer of width D about 24 R L D^2 products and 8 R L^2 D in its
    attention: longer rows have fewer pads and more attention. The D of `TYPICAL_WIDTH` decides; a
    wrong one costs little. Tried are lengths that would hold all trees in n rows without a pad, and
    some a little longer.
    """
    lengths = [sorted((tree.length for tree in group), reverse=True) for group in groups if group]
    sums = [sum(each) for each in lengths]
    longest, total = max(each[0] for each in lengths), sum(sums)
    fewest = max(1, total // (4 * TYPICAL_WIDTH))  # rows beyond that length are never worth it
    most = -(-total // longest) + len(groups)
    even = {max(longest, -(-total // rows)) for rows in range(fewest, most + 1)}
    tried = {min(math.ceil(length * slack), total) for length in even for slack in SLACKS}

    def cost(rows: int, capacity: int) -> float:
        return rows * capacity * (1 + capacity / (3 * TYPICAL_WIDTH))

    def at_least(capacity: int) -> float:
        """Lower bound of the cost of any packing: without padding, and no two long trees in a
        row."""
        rows = 0
        for each, positions in zip(lengths, sums, strict=True):
            long = bisect_left(each, -capacity / 2, key=neg)
            rows += max(long, -(-positions // capacity))
        return cost(rows, capacity)

    best = (math.inf, 0)
    for least, capacity in sorted((at_least(each), each) for each in tried):
        if least > best[0]:
            break  # nor can the others be better
        rows = sum(len(_first_fit(each, capacity)) for each in lengths)
        best = min(best, (cost(rows, capacity), capacity))
    return best[1]


def _lay_out(
    rows: list[list[Tree]], widths: list[int], layout: Layout, pad_token_id: int, index: int
) -> Batch:
    table = _Table(len(rows), max(widths), pad_token_id)
    collected: dict[Role, _Collected] = {}
    for number, row in enumerate(rows):
        table.fill(number, row, collected)
    tree_RL, branch_RL = torch.from_numpy(table.tree), torch.from_numpy(table.branch)
    mask = tree_mask(tree_RL, branch_RL) if layout == "tree" else tree_RL > 0
    tensors = Rows(torch.from_numpy(table.ids), torch.from_numpy(table.positions), mask)
    answers = {role: tokens.finish() for role, tokens in collected.items()}
    return Batch(tensors, answers, index, tuple(widths))


def tree_mask(tree_RL: Tensor, branch_RL: Tensor) -> Tensor:
    """Builds the attention mask [R, 1, L, L] of tree rows: position i sees j where j is not later,
    of the same tree, and of its trunk or of the same branch. Padding sees padding, so that no row
    of the softmax is empty.

    Examples:
        >>> tree, branch = torch.tensor([[1, 1, 1]]), torch.tensor([[0, 1, 2]])  # two answers
        >>> tree_mask(tree, branch)[0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    tree, branch = tree_RL.numpy(), branch_RL.numpy()
    stride = int(branch.max()) + 1
    small = np.min_scalar_type((int(tree.max()) + 1) * stride)  # few bytes to compare
    trunk = (tree * stride).astype(small)
    own = trunk + branch.astype(small)
    causal = np.tri(own.shape[1], dtype=bool)
    mask = np.empty((*own.shape, own.shape[1]), dtype=bool)
    for seen, trunk_L, own_L in zip(mask, trunk, own, strict=True):  # a row stays in the cache
        np.equal(own_L[:, None], own_L, out=seen)
        seen |= trunk_L[:, None] == own_L
        seen &= causal
    return torch.from_numpy(mask)[:, None]


@dataclass
class _Collected:
    """The loss positions of one role, an array for each answer as it is met."""

    index: list[Ints]
    targets: list[Ints]
    examples: list[int]
    prompts: list[int]
    rows: list[int]

    def finish(self) -> AnswerTokens:
        count = len(self.examples)
        sequence = np.repeat(np.arange(count), [len(each) for each in self.targets])
        joined = (np.concatenate(self.index), np.concatenate(self.targets), sequence)
        index, targets, sequences = map(torch.from_numpy, joined)
        prompts, rows = torch.tensor(self.prompts), (min(self.rows), max(self.rows) + 1)
        return AnswerTokens(index, targets, sequences, count, tuple(self.examples), prompts, rows)


class _Table:
    """Rows under construction; `tree` 0 is padding, `branch` 0 a trunk."""

    def __init__(self, rows: int, width: int, pad_token_id: int) -> None:
        self.width, shape = width, (rows, width)
        self.ids = np.full(shape, pad_token_id, dtype=np.int64)
        self.positions, self.tree, self.branch = np.zeros((3, *shape), dtype=np.int64)

    def fill(self, row: int, trees: list[Tree], collected: dict[Role, _Collected]) -> None:
        """Lays the trees of one row side by side.

        The one place of the next-token shift and of the label mask: an answer's first token is
        predicted from the prompt's last position, every other from the answer token before it.
        """
        ids, positions, branches = self.ids[row], self.positions[row], self.branch[row]
        offset, at = row * self.width, 0  # of the row in the flat index, and in the row
        for number, tree in enumerate(trees, start=1):
            trunk = len(tree.prompt_ids)
            self.tree[row, at : at + tree.length] = number
            ids[at : at + trunk] = tree.prompt_ids
            positions[at : at + trunk] = np.arange(trunk)
            at += trunk
            trunk_end = offset + at - 1
            for branch, answer in enumerate(tree.answers, start=1):
                tokens = np.array(answer.ids, dtype=np.int64)
                fed = slice(at, at + len(tokens) - 1)
                ids[fed] = tokens[:-1]
                positions[fed] = np.arange(trunk, trunk + len(tokens) - 1)
                branches[fed] = branch
                index = np.arange(offset + at - 1, offset + fed.stop)
                index[0] = trunk_end
                role = collected.setdefault(answer.role, _Collected([], [], [], [], []))
                role.index.append(index)
                role.targets.append(tokens)
                role.examples.append(answer.example)
                role.prompts.append(tree.number)
                role.rows.append(row)
                at = fed.stop
