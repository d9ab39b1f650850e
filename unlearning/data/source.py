"""Reads records from a local file, a local folder or a hub id."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from unlearning.data.files import SUFFIXES, Record, iterate_file
from unlearning.errors import ConfigError
from unlearning.types import Example

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SPLIT_NAMES = ("train", "validation", "valid", "val", "dev", "test")


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
        source: a local csv, jsonl, json or parquet file, a folder of files of one such kind, or a
            data set's id on the Hugging Face hub (`owner/name`). What exists locally comes first.
        split: which split of a hub data set, or which files of a folder where their names begin
            with a split's name; None takes all. A single file is one split, whatever its name.
        config_name: the hub data set's configuration ("subset").
        revision: branch, tag or commit on the hub.
        data_files: the hub data set's file for this split, where its files differ in columns.

    Raises:
        ConfigError: nothing there, unreadable, empty, or a column is missing; when it is come to.
    """
    if is_hub_id(source):
        records = _hub_records(source, split, config_name, revision, data_files)
    else:
        records = chain.from_iterable(iterate_file(path) for path in local_files(source, split))
    row = 0
    for row, record in enumerate(records, start=1):
        require_columns(record, columns, f"{source}, row {row}" if row > 1 else source)
        yield record
    if not row:
        raise ConfigError(f"{source} holds no records (a header alone does not count).")


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
        record = next(iterate_file(path), None)
        if record is None:
            raise ConfigError(f"{path} holds no records (a header alone does not count).")
        require_columns(record, columns, str(path))
        present = list(record)
    return present


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
    if Path(source).expanduser().exists() or Path(source).suffix.lower() in SUFFIXES:
        return False
    return HUB_ID.fullmatch(source) is not None


def local_files(source: str, split: str | None) -> list[Path]:
    """Lists the data files that a local source stands for.

    Raises:
        ConfigError: the path does not exist, or the folder holds no data files, those of several
            kinds, or none of the wanted split.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"No file or folder {source!r}.{_near_paths(path)}{_NEITHER}")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        found = f"files of several kinds ({', '.join(kinds)})" if kinds else "none"
        raise ConfigError(
            f"Folder {source!r}: expected data files of one kind ({', '.join(SUFFIXES)}) directly "
            f"in it, found {found}. Name a single file or another folder."
        )
    if split is None or not any(_names_split(file, name) for file in files for name in SPLIT_NAMES):
        return files
    of_split = [file for file in files if _names_split(file, split)]
    if not of_split:
        raise ConfigError(
            f"Folder {source!r} has no file of the split {split!r}, only "
            f"{', '.join(file.name for file in files)}."
        )
    return of_split


_NEITHER = (
    " Give a csv, jsonl, json or parquet file, a folder of them, or a data set's id on the "
    "Hugging Face hub (owner/name)."
)


def _names_split(file: Path, split: str) -> bool:
    return re.match(rf"{re.escape(split)}(?![A-Za-z])", file.name, re.IGNORECASE) is not None


def _near_paths(path: Path) -> str:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(folder).parts[0]
    near = difflib.get_close_matches(
        missing, [entry.name for entry in folder.iterdir()], cutoff=0.5
    )
    if not near:
        return f" The nearest folder that exists is {str(folder)!r}."
    return f" In {str(folder)!r} there is {', '.join(map(repr, near))}."


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
            f"Check the name and the connection, or give a local path.{_near_paths(Path(source))}"
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
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()
