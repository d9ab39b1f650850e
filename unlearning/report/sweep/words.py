"""Parses overrides as a command line has them, and the values that they give to keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from unlearning.nested import leaves

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_OWN = ("hydra.", "hydra/", "sweep.")  # how a sweep is run is not what is swept
_PLACES = ("logger.", "cache_dir")  # where things are written differs, and changes no result
_SWEEPS = re.compile(r"(tag|choice|range|interval|glob|shuffle|sort)\(")


def parse(word: str) -> tuple[str, str] | None:
    """Returns key and value of `key=value`; None for an override that sets no key of the run
    itself."""
    key, equals, value = word.partition("=")
    key = key.strip().lstrip("+")
    if not equals or not key or key.startswith(("~", "-", *_OWN)):
        return None
    return key.partition("@")[0], canonical(value)


def canonical(value: object) -> str:
    """Returns a value as text; one number has one spelling, however it was typed."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return f"{value:.15g}"
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return f"{float(text):.15g}"
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def as_number(text: str) -> float | None:
    """Returns the number that a canonical value is, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None


def show(text: str) -> str:
    """Formats a value for a label: searches draw numbers with too many digits to read."""
    value = as_number(text)
    return text if value is None or len(text) <= 7 else f"{value:.4g}"


def flat(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields every leaf of a configuration by its dotted key."""
    for key, value in leaves(config, lists=False):
        if not key.startswith((*_OWN, *_PLACES)):
            yield key, canonical(value)


def sweeps(word: str) -> bool:
    """Whether an override stands for several values: `a,b`, `choice(...)`, `range(...)` and the
    like."""
    _, _, value = word.partition("=")
    if _SWEEPS.match(value.strip()):
        return True
    depth, quote = 0, ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        elif letter == "," and depth == 0:
            return True
    return False


def of_the_run(words: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the overrides without those about the sweep itself."""
    return tuple(word for word in words if not word.lstrip("+~").startswith(_OWN))
