"""Compares normalised texts: drops duplicates, and keeps forget and retain sets disjoint."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

from unlearning.data.digests import Digests, contained, digests, firsts
from unlearning.data.stored_examples import take
from unlearning.errors import ConfigError
from unlearning.types import Example

SHOWN = 80


def normalise(text: str) -> str:
    """Normalises a text for comparison: Unicode NFKC, case folded, white space collapsed.

    Examples:
        >>> normalise("  The   Old ROAD ")
        'the old road'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def drop_duplicates(examples: Sequence[Example]) -> Sequence[Example]:
    """Keeps the first of every normalised (prompt, response), in the order given.

    Examples:
        >>> from unlearning import Example
        >>> examples = [Example("A", "x"), Example("a ", "X"), Example("b", "x")]
        >>> [example.prompt for example in drop_duplicates(examples)]
        ['A', 'b']
    """
    # No normal form holds a line end, so that none blurs the border.
    pairs = (f"{normalise(e.conversation)}\n{normalise(e.response)}" for e in examples)
    return take(examples, firsts(digests(pairs, len(examples))))


def check_disjoint(
    forget: Collection[Example],
    retain: Collection[Example],
    names: tuple[str, str] = ("forget", "retain"),
) -> None:
    """Raises a ConfigError where the same text is both to forget and to retain.

    Compared are the prompts, and prompt and response read as one text, so that a passage cut
    into prompt and continuation at another place is found too.

    Args:
        forget: read once, and once more where something is found.
        retain: read once.

    Raises:
        ConfigError: at least one text is in both; says how many, and shows one.
    """
    ours, theirs = _forms(forget), _forms(retain)
    # Column by column: a prompt alone that equals another's prompt and response is another text.
    shared = contained(ours[:, 0], theirs[:, 0].copy())
    shared |= contained(ours[:, 1], theirs[:, 1].copy())
    if not shared.any():
        return
    one = next(example for example, found in zip(forget, shared, strict=True) if found).prompt
    shown = one if len(one) <= SHOWN else one[: SHOWN - 3] + "..."
    raise ConfigError(
        f"{shared.sum()} {names[0]} examples are also in the {names[1]} set (case and white space "
        f"aside), for example the one with the prompt {shown!r}. A text can be in one of them "
        "only: remove it from one of the two sources."
    )


def _forms(examples: Collection[Example]) -> Digests:
    """Returns [Examples, 2] digests: of the prompt, and of prompt and response as one text."""
    asked = ((e.conversation, e.response) for e in examples)
    forms = (normalise(text) for prompt, said in asked for text in (prompt, f"{prompt} {said}"))
    return digests(forms, 2 * len(examples)).reshape(-1, 2)
