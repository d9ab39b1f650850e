"""Parses the values that an override gives to its key, in a sweep all of them."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException


def override_values(word: str) -> list[Any]:
    """Returns the values as plain mappings, lists, texts and numbers.

    Empty for a range of numbers, and for a word that does not parse.

    Examples:
        >>> override_values("+x={a: 'b c', n: [1, 2]}")
        [{'a': 'b c', 'n': [1, 2]}]
        >>> override_values("x=choice({a: b},2)")
        [{'a': 'b'}, 2]
    """
    try:
        value = OverridesParser.create().parse_override(word)._value
    except HydraException:
        return []  # composing the configuration raises it, too
    return [_plain(each) for each in (value.list if isinstance(value, ChoiceSweep) else [value])]


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
