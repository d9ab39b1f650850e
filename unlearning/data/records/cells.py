"""Parses the cells of records: flags, texts, and lists that a table's writer turned into text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unlearning.errors import ConfigError

TRUE = ("true", "1", "1.0")
FALSE = ("false", "0", "0.0")
MISSING = ("nan", "NaN", "<NA>", "NaT")
"""Words that pandas and numpy write for a cell without a value."""

_LIST = re.compile(r"""\s*(array\()?[\[{]\s*(['"\]}]|None\b|\.\.\.|[{\[]\s*['"])""")
_TUPLE = re.compile(r"""\s*\(\s*(['"]).*\1\s*,.*\)\s*""", re.DOTALL)
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_ARRAY = re.compile(r"array\((.*?)(,\s*dtype=[^)]*)?\)", re.DOTALL)
_ENDS = {"[": "]", "(": ")", "{": "}"}


def parse_flag(value: Any, where: str) -> bool:
    """Parses a bool as JSON, parquet, csv or pandas spell it; `bool("False")` would be True.

    Raises:
        ConfigError: anything that is not plainly true or false.

    Examples:
        >>> parse_flag("False", "row 1")
        False
    """
    text = str(value).strip().casefold()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ConfigError(f"{where}: {value!r} is neither true nor false (or 1, 0).")


def checked_text(value: Any, where: str, what: str, strip: bool = True) -> str:
    """Returns a cell's text without white space around it; empty for a cell without a value.

    Args:
        what: names the text in errors, for example `prompt`.
        strip: off for running text, whose white space and every word are its own.

    Raises:
        ConfigError: it is no text, or holds half of a surrogate pair, which no tokenizer takes.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: the {what} is {shortened(value)}, expected text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{where}: the {what} holds half of a surrogate pair ({value[error.start]!r} at "
            f"character {error.start}), which is no text. A writer has cut a character in two; "
            "correct or remove the row."
        ) from error
    if not strip:
        return value
    text = value.strip()
    return "" if text in MISSING else text


def shortened(value: Any, most: int = 80) -> str:
    """Returns the repr of a value, cut where it is long, for errors."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= most else f"{text[:most]}..."


def looks_like_list(text: str) -> bool:
    """Whether a text is the repr of a list, tuple, array or mapping of texts."""
    return (_LIST.match(text) or _TUPLE.fullmatch(text)) is not None


def parse_list(text: str, where: str) -> list[str] | None:
    """Parses a list of texts that was written into one cell, as `str(list)` (pandas), `str(array)`
    (numpy) or JSON write it.

    Returns:
        The texts; None where the cell is no such list but plain text.

    Raises:
        ConfigError: it begins as one and cannot be parsed, or is shortened by "...".

    Examples:
        >>> parse_list("['a', 'b; c']", "row 1")
        ['a', 'b; c']
        >>> parse_list("['a' 'b']", "row 1")  # numpy; Python would read 'ab'
        ['a', 'b']
    """
    if not looks_like_list(text):
        return None
    array = _ARRAY.fullmatch(text.strip())
    body = (array[1] if array else text).strip()
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = _literals(body)
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise ConfigError(
            f"{where}: {shortened(text)} looks like a list or mapping that was written as text, "
            "and cannot be read as a list of texts. Write the column as a real list (jsonl or "
            "parquet), or as texts joined by '; ' where the data set has it so."
        )
    return found


def _literals(body: str) -> list[str] | None:
    """Parses quoted texts in brackets, parted either by commas or by white space."""
    if len(body) < 2 or _ENDS.get(body[0]) != body[-1]:
        return None
    found, gaps, place, end = [], set(), 1, len(body) - 1
    while (literal := _LITERAL.match(body, place)) is not None:
        try:
            found.append(ast.literal_eval(literal[0].replace("\n", "\\n")))
        except (ValueError, SyntaxError):
            return None
        gap = re.compile(r"\s*,?\s*").match(body, literal.end())
        assert gap is not None
        place = gap.end()
        if place < end:
            gaps.add("," if "," in gap[0] else " " if gap[0] else "")
    complete = place == end and "" not in gaps and len(gaps) <= 1
    return found if complete else None


def list_of_texts(value: Any, where: str) -> tuple[str, ...]:
    """The texts of a cell: one text, a list (also one written as text), or a mapping's values.

    Raises:
        ConfigError: it holds something else, no text, or an empty one.
    """
    if isinstance(value, Mapping):  # `{"text": [...], "label": [...]}` is common on the hub
        value = value.get("text", list(value.values()))
    if isinstance(value, str):
        written = parse_list(value, where)
        value = [value] if written is None else written
    if not isinstance(value, Sequence) or not value or not all(isinstance(t, str) for t in value):
        raise ConfigError(f"{where}: {shortened(value)} is no list of texts.")
    texts = tuple(checked_text(text, where, "text") for text in value)
    if not all(texts):
        raise ConfigError(f"{where}: one of {shortened(value)} is empty, expected a text.")
    return texts
