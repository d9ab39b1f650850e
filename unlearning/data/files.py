"""Reads records from csv, JSON and parquet files; errors name the place in the file.

The standard csv and json readers are used, rather than those of `datasets`, because they can name
the line. A record is a dict from column to value; csv values are text.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearning.data.encoding import check_utf8
from unlearning.errors import ConfigError

if TYPE_CHECKING:
    from _csv import Reader

Record = dict[str, Any]
SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
TEXT = "utf-8-sig"  # UTF-8, without the byte order mark it may begin with
START = 1 << 16
"""Characters that are read at a time to find the first one that is no white space."""


def iterate_file(path: Path) -> Iterator[Record]:
    """Yields the records of one csv, JSON or parquet file; a JSON array is read whole.

    The encoding is checked at once, throughout, before the first record.

    Raises:
        ConfigError: the kind is unknown, the file is empty, not UTF-8, or broken somewhere.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(SUFFIXES)}."
        )
    if suffix == ".parquet":
        return _parquet_records(path)
    check_utf8(path)
    first = _first_character(path)
    if not first:
        raise ConfigError(f"{path} is empty; expected records.")
    if suffix == ".csv":
        return _csv_records(path)
    return _json_array(path) if first == "[" else _json_lines(path)


def read_text(path: Path) -> str:
    """Reads a whole file as UTF-8, without a byte order mark.

    Raises:
        ConfigError: it is in another encoding; says at which byte it stops being UTF-8.
    """
    check_utf8(path)
    with path.open(encoding=TEXT, newline="") as file:
        return file.read()


def _first_character(path: Path) -> str:
    """Returns the first character that is not white space, or an empty string."""
    with path.open(encoding=TEXT, newline="") as file:
        while text := file.read(START):
            if found := text.lstrip():
                return found[0]
    return ""


def _csv_records(path: Path) -> Iterator[Record]:
    # newline="": a quoted field may hold line ends, which are the reader's to interpret.
    with path.open(encoding=TEXT, newline="") as file:
        yield from _csv_rows(path, csv.reader(file, strict=True))


def _csv_rows(path: Path, reader: Reader) -> Iterator[Record]:
    try:
        header = next(reader)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise ConfigError(f"{path}: the header names {', '.join(map(repr, repeated))} twice.")
        for values in reader:
            if not values:  # a blank line
                continue
            if len(values) != len(header):
                raise ConfigError(
                    f"{path}:{reader.line_num}: {len(values)} fields, but the header has "
                    f"{len(header)}. Quote fields that contain commas."
                )
            yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise ConfigError(
            f"{path}:{reader.line_num}: not readable as csv ({error}). Look for a quotation mark "
            "that is not closed or not doubled at or before this line."
        ) from error


def _json_lines(path: Path) -> Iterator[Record]:
    # Lines end at "\n" alone: U+2028 and its like may stand inside a JSON string.
    with path.open(encoding=TEXT, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.removesuffix("\n"))
            except json.JSONDecodeError as error:
                raise ConfigError(
                    f"{path}:{number}: not valid JSON ({error.msg}, column {error.colno}); "
                    "expected one complete object per line."
                ) from error
            yield _object(record, f"{path}:{number}")


def _json_array(path: Path) -> Iterator[Record]:
    try:
        records = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})."
        ) from error
    for number, record in enumerate(records, start=1):
        yield _object(record, f"{path}: record {number}")


def _object(record: Any, where: str) -> Record:
    if not isinstance(record, dict):
        raise ConfigError(
            f"{where}: expected an object with named columns, found {type(record).__name__}."
        )
    return record


def _parquet_records(path: Path) -> Iterator[Record]:
    # Imported here, since only parquet needs it.
    import pyarrow.parquet
    from pyarrow import ArrowInvalid

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path}: not a readable parquet file ({error}).") from error
