"""Reads folders that `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk` made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError

DATASET = "state.json"
DICT = "dataset_dict.json"
ROWS = 1000  # read at a time


def is_saved(folder: Path) -> bool:
    """Whether a folder is one of `save_to_disk`."""
    return any((folder / name).is_file() for name in (DATASET, DICT))


def saved_folders(folder: Path, split: str | None) -> list[Path]:
    """Lists the folders of the data sets: the folder itself, or those of a DatasetDict's splits.

    Args:
        split: of a DatasetDict; None takes all. A single Dataset is one split, whatever its name.

    Raises:
        ConfigError: the DatasetDict has no such split.
    """
    if not (folder / DICT).is_file():
        return [folder]
    try:
        names = json.loads((folder / DICT).read_text(encoding="utf-8"))["splits"]
        found = {str(name): folder / str(name) for name in names}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{folder / DICT} cannot be read: {error!r}") from error
    if split is not None and split not in found:
        raise ConfigError(
            f"{str(folder)!r} has no split {split!r}; there are {', '.join(map(repr, found))}. Set "
            "records_split to one of them."
        )
    return list(found.values()) if split is None else [found[split]]


def saved_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of one saved Dataset; its text stays on the disk.

    Raises:
        ConfigError: it is damaged.
    """
    # Imported here, since it takes seconds.
    import datasets
    import pyarrow

    try:
        loaded = datasets.load_from_disk(str(folder), keep_in_memory=False)
        for rows in loaded.with_format(None).iter(ROWS):
            names = list(rows)
            for values in zip(*rows.values(), strict=True):
                yield dict(zip(names, values, strict=True))
    except (
        pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError,
        RecursionError,
    ) as error:  # fmt: skip
        raise ConfigError(
            f"{str(folder)!r} was made by save_to_disk and cannot be read ({error!r}). Save it "
            "again."
        ) from error


def saved_files(folder: Path) -> list[Path]:
    """Lists the files that hold a saved Dataset's content, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix == ".arrow")
