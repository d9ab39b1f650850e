"""Reads records from csv; a comma, or what else parts the header's names."""

from __future__ import annotations

import csv
import ctypes
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearning.data.records.opening import open_text
from unlearning.errors import ConfigError

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ";\t|"
LARGEST = (1 << 8 * ctypes.sizeof(ctypes.c_long) - 1) - 1
"""Characters that a cell may have; the standard library stops at 131,072 otherwise."""


def csv_records(path: Path, names: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields the records of a csv file with a header; a record's values are text.

    Where the header has no comma, the fields are parted by semicolons (a spreadsheet's csv in many
    countries), tabs or bars, whichever it has.

    Args:
        names: of the columns of a file without a header, whose fields are parted by commas.

    Raises:
        ConfigError: it cannot be read as csv, or a record has too many or too few fields.
    """
    # newline="": a quoted field may hold line ends, which are the reader's to interpret.
    with open_text(path, newline="") as file:
        first = file.readline()
        skipped = int(len(first.rstrip("\r\n")) == 5 and first.lower().startswith("sep="))
        if skipped:  # a spreadsheet's own way to say it
            delimiter, lines = first[4], iter(file)
        elif names is not None:
            delimiter, lines = ",", chain([first], file)
        else:
            delimiter, lines = _delimiter(first), chain([first], file)
        csv.field_size_limit(LARGEST)
        yield from _rows(path, lines, delimiter, skipped, names)


def _delimiter(header: str) -> str:
    """Returns what parts the names of a header."""
    if _fields(header, ",") > 1:
        return ","
    best = max(DELIMITERS, key=lambda delimiter: _fields(header, delimiter))
    return best if _fields(header, best) > 1 else ","


def _fields(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:  # which reading it will say
        return 0


def _rows(
    path: Path, lines: Iterable[str], delimiter: str, skipped: int, names: Sequence[str] | None
) -> Iterator[Any]:
    reader: Reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, []) if names is None else list(names)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise ConfigError(f"{path}: the header names {', '.join(map(repr, repeated))} twice.")
        for values in reader:
            if not values:  # a blank line
                continue
            if len(values) != len(header):
                wanted = "the header has" if names is None else "a record of this data set has"
                raise ConfigError(
                    f"{path}:{reader.line_num + skipped}: {len(values)} fields, but {wanted} "
                    f"{len(header)}. Quote fields that contain {_NAMES[delimiter]}."
                )
            yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise ConfigError(
            f"{path}:{reader.line_num + skipped}: not readable as csv ({error}). Look for a "
            "quotation mark that is not closed or not doubled at or before this line."
        ) from error


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
