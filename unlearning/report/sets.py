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
    return says_so or [name for name in names if not _SEEN & _words(name)]


def taught(names: Sequence[str]) -> list[str]:
    """Sets of passages that the model was taught: all that do not say that they were held out."""
    return [name for name in names if not says_held_out(name)]


def says_held_out(name: str) -> bool:
    """In one word or two, or by the name of a split that nothing is trained on."""
    return "heldout" in re.sub(r"[\W_]", "", name.lower()) or bool(_UNSEEN & _words(name))


_SEEN = {"seen", "train", "training", "trained"}
_UNSEEN = {"unseen", "untaught", "test", "validation"}


def _words(name: str) -> set[str]:
    return set(re.split(r"[\W_]+", name.lower()))
