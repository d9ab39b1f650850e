"""Reads records from a local file, a local folder or a hub id."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from unlearning.data.records.files import SUFFIXES, Record, iterate_file
from unlearning.data.records.local import local_files, near_paths
from unlearning.data.records.opening import existing_path, kind_of
from unlearning.data.records.saved import saved_records
from unlearning.data.records.where import RowFilter
from unlearning.errors import ConfigError
from unlearning.types import Example

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def iterate_records(
    source: str,
    *,
    columns: Sequence[str],
    split: str | None = "train",
    config_name: str | None = None,
    revision: str | None = None,
    data_files: str | None = None,
) -> Iterator[Record]:
    """Yields the records of a source, each with at least the `columns`.

    Args:
        source: a local csv, jsonl, json or parquet file (but for parquet also .gz, .xz or .zst), a
            folder of files of one such kind, a folder made by `save_to_disk`, or a data set's id on
            the Hugging Face hub (`owner/name`). What exists locally comes first.
        split: which split of a hub data set or of a saved DatasetDict, or which files of a folder
            where their names begin with a split's name; None takes all. A single file is one
            split, whatever its name.
        config_name: the hub data set's configuration ("subset").
        revision: branch, tag or commit on the hub.
        data_files: the hub data set's file for this split, where its files differ in columns.

    Raises:
        ConfigError: nothing there, unreadable, empty, or a column is missing; when it is come to.
    """
    if is_hub_id(source):
        records = _hub_records(source, split, config_name, revision, data_files)
    else:
        records = chain.from_iterable(_records_of(path) for path in local_files(source, split))
    row = 0
    for row, record in enumerate(records, start=1):
        require_columns(record, columns, f"{source}, row {row}" if row > 1 else source)
        yield record
    if not row:
        raise ConfigError(f"{source} holds no records (a header alone does not count).")


def selected_records(
    source: str, where: Mapping[str, Any] | None, *, columns: Sequence[str], **options: Any
) -> Iterator[tuple[int, Record]]:
    """Yields the records of a source that `where` selects, with their row in the source, from 1.

    Args:
        where: see `RowFilter`.
        columns: see `iterate_records`, also for `options`.

    Raises:
        ConfigError: as `iterate_records`; a value of `where` is in no record, or all of them
            together are in none.
    """
    rows, taken = RowFilter(where, source), 0
    records = iterate_records(source, columns=(*columns, *rows.columns), **options)
    for row, record in enumerate(records, start=1):
        if rows.takes(record, f"{source}, row {row}"):
            taken += 1
            yield row, record
    rows.check_found()
    if not taken:
        raise ConfigError(f"{source}: no record has all of where={dict(where or {})}.")


def check_source(
    source: str, *, columns: Sequence[str], split: str | None = "train"
) -> list[str] | None:
    """Checks a source without loading it; `validate=true` asks this.

    Every local file is read up to its first record, whose columns are returned, and its encoding is
    checked throughout. A hub id is checked for its form only, and not looked up: None.

    Raises:
        ConfigError: as `iterate_records`, so far as this sees.
    """
    if is_hub_id(source):
        return None
    present: list[str] = []
    for path in local_files(source, split):
        record = next(_records_of(path), None)
        if record is None:
            raise ConfigError(f"{path} holds no records (a header alone does not count).")
        require_columns(record, columns, str(path))
        present = list(record)
    return present


def _records_of(path: Path) -> Iterator[Record]:
    return saved_records(path) if path.is_dir() else iterate_file(path)


def require_columns(present: Iterable[str], wanted: Sequence[str], where: str) -> None:
    """Raises a ConfigError for a missing column; names those present and the nearest."""
    names = list(present)
    for column in wanted:
        if column in names:
            continue
        folded = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(column.casefold(), folded, n=1)
        hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
        raise ConfigError(
            f"{where}: column {column!r} is missing; present are "
            f"{', '.join(map(repr, names)) or 'none'}.{hint}"
        )


def is_hub_id(source: str) -> bool:
    """Whether a source is a hub id: `owner/name`, and no such local path."""
    if HUB_ID.fullmatch(source) is None or kind_of(source) in SUFFIXES:
        return False
    return existing_path(source) is None


def _hub_records(
    source: str,
    split: str | None,
    config_name: str | None,
    revision: str | None,
    data_files: str | None,
) -> Iterator[Record]:
    # Imported here, since it takes seconds that a local source need not wait for.
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        files = {split or "train": data_files} if data_files else None
        loaded = datasets.load_dataset(
            source, name=config_name, split=split, revision=revision, data_files=files
        )
    except (DatasetsError, OSError, ValueError) as error:
        raise ConfigError(
            f"{source!r} is no local path, and loading it from the Hugging Face hub (config "
            f"{config_name!r}, split {split!r}, revision {revision!r}) failed: {error} "
            f"Check the name and the connection, or give a local path.{near_paths(Path(source))}"
        ) from error
    parts = loaded.values() if isinstance(loaded, dict) else [loaded]
    for part in parts:
        yield from map(dict, part)


def fingerprint(examples: Iterable[Example]) -> str:
    """Returns the sha256 (hex) of prompts, responses and what else there is of each, in order."""
    digest = hashlib.sha256()
    for example in examples:
        content: list[Any] = [example.prompt, example.response]
        if example.alternatives or example.label is not None:
            content += [example.alternatives, example.label]
        if example.turns:
            content.append({"turns": example.turns})
        if example.response_ids:
            content.append({"response_ids": example.response_ids})
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()
