"""Writes text into the cells of a table that a spreadsheet will not run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

_FORMULA = re.compile(r"[\s\0]*[=+\-@\uff0b\uff0d\uff1d\uff20]|[\t\n]")
_LINE_END = re.compile(r"\r\n?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")


def safe_cell(text: str) -> str:
    """Returns text that a spreadsheet shows as it is: what it would run gets a `'` in front.

    Spreadsheets run a cell that begins with =, +, - or @, after white space and in full width, too.
    A number stays one.

    Examples:
        >>> safe_cell("=1+1"), safe_cell("-0.5"), safe_cell("-x")
        ("'=1+1", '-0.5', "'-x")
    """
    text = _LINE_END.sub("\n", text)  # csv quotes a cell with a line feed, and not one with this
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Returns CSV with the columns' names and a line for each row; what a row lacks is blank."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(map(safe_cell, columns))
    for row in rows:
        writer.writerow([safe_cell(str(row.get(column, ""))) for column in columns])
    return written.getvalue()
