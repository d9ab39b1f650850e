"""Which answers share rows: those that some forward of a step reads together.

A forward runs whole rows. Forget, alternate and mismatch answers to one prompt share it in a tree,
where some forward reads them together; else each of its trees has the prompt of its own, and the
forward of one runs none of the others. Answers that no forward reads stand in rows behind all
others. They are there for whoever looks at a batch, and are not run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, get_args

from unlearning.types import Role

if TYPE_CHECKING:
    from unlearning.data.layout import Tree

Forwards = Sequence[Collection[Role]]
"""The roles that are read by each forward of a step, the policy's and the reference's."""

ALL: frozenset[Role] = frozenset(get_args(Role))
RETAIN_APART: Forwards = (ALL, frozenset({"retain"}))
"""All answers in one forward, and a reference on the retain answers."""


def parts_of(forwards: Forwards) -> list[set[Role]]:
    """Returns the roles whose answers share rows, a set for each part of the batch, in the order of
    the rows. Roles that are in none are read by no forward.

    Retain answers share no prompt with others; they are a part of their own where some forward
    reads one side alone. Elsewhere rows that mix them with others have fewer pads.

    Examples:
        >>> policy = {"forget", "mismatch", "retain"}
        >>> [sorted(part) for part in parts_of([policy])]
        [['forget', 'mismatch', 'retain']]
        >>> [sorted(part) for part in parts_of([policy, {"retain"}])]  # a reference that runs
        [['forget', 'mismatch'], ['retain']]
        >>> [sorted(part) for part in parts_of([{"forget"}, {"mismatch", "retain"}])]  # SAM
        [['forget'], ['mismatch'], ['retain']]
    """
    reads = [set(each) for each in forwards if each]
    parts: list[set[Role]] = []
    for each in reads:
        part: set[Role] = each - {"retain"}
        joined = [other for other in parts if other & part]
        parts = [other for other in parts if not other & part]
        if part:
            parts.append(part.union(*joined))
    # Rows that one forward runs are neighbours: those that are read with retain answers come last.
    parts.sort(key=lambda part: any("retain" in each and part & each for each in reads))
    if len(parts) == 1 and all("retain" in each and len(each) > 1 for each in reads):
        parts[0].add("retain")
    elif any("retain" in each for each in reads):
        parts.append({"retain"})
    return parts


def split_trees(
    trees: Sequence[Tree], forwards: Forwards
) -> tuple[list[list[Tree]], list[list[Tree]]]:
    """Returns the trees of each part, those of a prompt in each with the answers of its roles; and
    likewise, as one part or none, those of the answers that no forward reads."""
    parts = parts_of(forwards)
    place = {role: number for number, part in enumerate(parts) for role in part}
    found: list[list[Tree]] = [[] for _ in range(len(parts) + 1)]
    for tree in trees:
        places = [place.get(answer.role, len(parts)) for answer in tree.answers]
        for number in sorted(set(places)):
            found[number].append(tree.only(n == number for n in places))
    *read, unread = found
    return [part for part in read if part], [unread] if unread else []
