"""Which prompt sets a model was trained on, as far as their names say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def of_kind(kinds: Mapping[str, str], kind: str) -> list[str]:
    """The names of the sets of one kind, in the file's order."""
    return [name for name, its_kind in kinds.items() if its_kind == kind]


def held_out(names: Sequence[str]) -> list[str]:
    """Sets of unseen prompts: those that say so, or else those that do not say the opposite."""
    says_so = [name for name in names if says_held_out(name)]
    seen = {"seen", "train", "training", "trained"}
    return says_so or [n for n in names if not seen & set(re.split(r"[\W_]+", n.lower()))]


def taught(names: Sequence[str]) -> list[str]:
    """Sets of passages that the model was taught: all that do not say that they were held out."""
    return [name for name in names if not says_held_out(name)]


def says_held_out(name: str) -> bool:
    return "heldout" in re.sub(r"[\W_]", "", name.lower())
