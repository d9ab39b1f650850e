"""Reads records from csv, JSON and parquet files; errors name the place in the file.

The standard csv and json readers are used, rather than those of `datasets`, because they can name
the line. A record is a dict from column to value; csv values are text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unlearning.data.records.csv_file import csv_records
from unlearning.data.records.encoding import check_utf8
from unlearning.data.records.json_file import first_character, json_records
from unlearning.data.records.opening import (
    COMPRESSED,
    existing_path,
    kind_of,
    open_bytes,
    open_text,
)
from unlearning.errors import ConfigError

Record = dict[str, Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def iterate_file(path: Path, names: Sequence[str] | None = None) -> Iterator[Record]:
    """Yields the records of one csv, JSON or parquet file; a JSON array is read whole.

    All but parquet may be compressed (.gz, .xz, .zst). The encoding is checked at once, throughout,
    before the first record.

    Args:
        names: of the columns of a csv file without a header.

    Raises:
        ConfigError: the kind is unknown, the file is empty, not UTF-8, or broken somewhere.
    """
    check_regular(path)
    kind = kind_of(path)
    if kind not in SUFFIXES:
        raise ConfigError(
            f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(SUFFIXES)}, "
            f"the text ones also compressed ({', '.join(COMPRESSED)})."
        )
    if kind == ".parquet":
        return parquet_records(path)
    check_utf8(path)
    if kind not in (".csv", ".tsv"):
        return json_records(path)
    if not first_character(path):
        raise ConfigError(f"{path} is empty; expected records.")
    return csv_records(path, names)


def read_text(path: Path) -> str:
    """Reads a whole file as UTF-8, without a byte order mark.

    Raises:
        ConfigError: it is in another encoding; says at which byte it stops being UTF-8.
    """
    check_regular(path)
    check_utf8(path)
    with open_text(path, newline="") as file:
        return file.read()


def check_regular(path: Path) -> None:
    """Raises a ConfigError for what is not a file: a folder, a pipe, nothing."""
    found = existing_path(path)
    if found is None:
        raise ConfigError(f"No file {str(path)!r}.")
    if found.is_dir():
        raise ConfigError(f"{str(path)!r} is a folder; expected a file. Name the file in it.")


def parquet_records(path: Path) -> Iterator[Record]:
    """Yields the records of a parquet file, a batch of them in memory.

    Raises:
        ConfigError: it cannot be read.
    """
    # Imported here, since only parquet needs it.
    import pyarrow
    import pyarrow.parquet

    if path.suffix.lower() in COMPRESSED:
        raise ConfigError(f"{path}: parquet is compressed already; decompress the file.")
    with open_bytes(path):  # whether it may be read
        pass
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise ConfigError(f"{path}: not a readable parquet file ({error}).") from error
