"""Splits labelled comments into train, validation and test, by text and by class."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from unlearning.classifier.batches import Comment
from unlearning.errors import ConfigError

PARTS = ("train", "validation", "test")


def _normalised(text: str) -> str:
    return " ".join(text.split()).casefold()


def _rank(text: str, seed: int) -> str:
    """Returns where a text stands in the seeded order; depends on nothing but text and seed."""
    return hashlib.sha256(f"{seed}\n{_normalised(text)}".encode()).hexdigest()


def split_comments(
    comments: Sequence[Comment],
    fractions: Sequence[float],
    seed: int,
    max_rows: int | None = None,
) -> dict[str, list[Comment]]:
    """Splits comments so that no text is in two parts and each part has the classes' natural
    shares.

    Rows whose texts differ only in case or white space are one text and stay together. A text is
    in the harmful stratum where any label of any of its rows is 1. Texts are ranked by a hash, so
    that the split does not depend on the order of the records, and each part comes in that order:
    its first n rows are a random sample.

    Args:
        fractions: shares of training, validation and test; they sum to 1.
        max_rows: keep about this many rows, drawn from both strata in proportion.

    Raises:
        ConfigError: one class only, or a part would be empty.
    """
    texts: dict[str, list[Comment]] = defaultdict(list)
    for comment in comments:
        texts[_rank(comment.text, seed)].append(comment)
    strata: dict[bool, list[str]] = {True: [], False: []}
    for rank in sorted(texts):
        strata[any(comment.harmful for comment in texts[rank])].append(rank)
    if not strata[True] or not strata[False]:
        kind = "harmful" if strata[True] else "harmless"
        raise ConfigError(
            f"all {len(comments)} labelled comments are {kind}; a classifier needs both classes: "
            "check the label columns, or add comments of the other class"
        )
    ranks: dict[str, list[str]] = {part: [] for part in PARTS}
    for stratum in strata.values():
        if max_rows is not None and max_rows < len(comments):
            stratum = stratum[: max(1, round(len(stratum) * max_rows / len(comments)))]
        first = round(fractions[0] * len(stratum))
        second = round((fractions[0] + fractions[1]) * len(stratum))
        cuts = (stratum[:first], stratum[first:second], stratum[second:])
        for part, cut in zip(PARTS, cuts, strict=True):
            ranks[part] += cut
    empty = [part for part in PARTS if not ranks[part]]
    if empty:
        raise ConfigError(
            f"{len(texts)} different comments are too few: split {tuple(fractions)} leaves "
            f"{' and '.join(empty)} empty; give more comments or larger fractions"
        )
    return {
        part: [comment for rank in sorted(ranks[part]) for comment in texts[rank]] for part in PARTS
    }


def balance_classes(comments: Sequence[Comment]) -> list[Comment]:
    """Undersamples the larger class, harmful or harmless, to the size of the smaller one.

    The first rows of the larger class are kept, in their order: a random sample of what
    `split_comments` returns.
    """
    size = min(sum(c.harmful for c in comments), sum(not c.harmful for c in comments))
    room = {True: size, False: size}
    kept = []
    for comment in comments:
        if room[comment.harmful]:
            room[comment.harmful] -= 1
            kept.append(comment)
    return kept
