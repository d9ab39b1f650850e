"""Reads records from JSON lines, or from a JSON array; errors name the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unlearning.data.records.opening import open_text
from unlearning.errors import ConfigError

START = 1 << 16
"""Characters that are read at a time to find the first one that is no white space."""


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a file of JSON lines; those of a JSON array, which is read whole.

    Raises:
        ConfigError: the file is empty; a record is no JSON, no object, or names a key twice.
    """
    first = first_character(path)
    if not first:
        raise ConfigError(f"{path} is empty; expected records.")
    return _array(path) if first == "[" else _lines(path)


def first_character(path: Path) -> str:
    """Returns the first character that is not white space, or an empty string."""
    with open_text(path, newline="") as file:
        while text := file.read(START):
            if found := text.lstrip():
                return found[0]
    return ""


def parse_json(text: str, path: Path, remedy: str, line: int | None = None) -> Any:
    """Parses JSON strictly: a key that an object names twice is refused.

    Args:
        path: of the file, for errors.
        remedy: what was expected of the text.
        line: on which line of the file the text stands; None where it is the whole file.

    Raises:
        ConfigError: it is no JSON, nested too deeply, or holds an integer of thousands of digits.
    """
    where = str(path) if line is None else f"{path}:{line}"
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{line or error.lineno}: not valid JSON ({error.msg}, column {error.colno}); "
            f"{remedy}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{where}: JSON that is nested too deeply; {remedy}") from error
    except ValueError as error:  # a repeated key, or Python's limit of an integer's digits
        raise ConfigError(f"{where}: {error}; {remedy}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"an object has the key {', '.join(map(repr, repeated))} more than once")
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    remedy = "expected one complete object per line, or one array of objects."
    # Lines end at "\n" alone: U+2028 and its like may stand inside a JSON string.
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = parse_json(line.removesuffix("\n"), path, remedy, number)
                yield _object(record, f"{path}:{number}")


def _array(path: Path) -> Iterator[dict[str, Any]]:
    remedy = "expected an array of objects. (In a file of JSON lines, each line is an object.)"
    with open_text(path, newline="") as file:
        records = parse_json(file.read(), path, remedy)
    for number, record in enumerate(records, start=1):
        yield _object(record, f"{path}: record {number}")


def _object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ConfigError(
            f"{where}: expected an object with named columns, found {type(record).__name__}."
        )
    return record
