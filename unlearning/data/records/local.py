"""Finds the data files that a local path stands for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from unlearning.data.records.files import SUFFIXES
from unlearning.data.records.opening import COMPRESSED, existing_path, kind_of
from unlearning.data.records.saved import is_saved, saved_folders
from unlearning.errors import ConfigError

SPLIT_NAMES = ("train", "validation", "valid", "val", "dev", "test")


def local_files(source: str, split: str | None) -> list[Path]:
    """Lists the data files that a local source stands for, or the folders of saved data sets.

    Raises:
        ConfigError: the path does not exist, or the folder holds no data files, those of several
            kinds, the same one twice, or none of the wanted split.
    """
    path = existing_path(source)
    if path is None:
        raise ConfigError(
            f"No file or folder {source!r}.{near_paths(Path(source).expanduser())}{_NEITHER}"
        )
    if path.is_file():
        return [path]
    if is_saved(path):
        return saved_folders(path, split)
    files = files_of_one_kind(path, list_folder(path), SUFFIXES)
    if split is None or not any(_names_split(file, name) for file in files for name in SPLIT_NAMES):
        return files
    of_split = [file for file in files if _names_split(file, split)]
    if not of_split:
        raise ConfigError(
            f"Folder {source!r} has no file of the split {split!r}, only "
            f"{', '.join(file.name for file in files)}."
        )
    return of_split


def list_folder(folder: Path) -> list[Path]:
    """Lists what is directly in a folder.

    Raises:
        ConfigError: it may not be looked into.
    """
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"Folder {str(folder)!r} cannot be read: {error.strerror}.") from error


def files_of_one_kind(root: Path, found: Iterable[Path], kinds: Sequence[str]) -> list[Path]:
    """Returns those of the paths that are data files, in the order of their names.

    Raises:
        ConfigError: there is none, they are of several kinds, or one is there compressed and not.
    """
    files = sorted(path for path in found if kind_of(path) in kinds and not path.is_dir())
    there = sorted({kind_of(path) for path in files})
    if len(there) != 1:
        what = f"files of several kinds ({', '.join(there)})" if there else "none"
        raise ConfigError(
            f"{'Folder ' if root.is_dir() else ''}{str(root)!r}: expected data files of one kind "
            f"({', '.join(kinds)}), found {what}. Name a single file or another folder."
        )
    plain: dict[str, Path] = {}
    for path in files:
        name = str(path.with_suffix("") if path.suffix.lower() in COMPRESSED else path)
        if name in plain:
            raise ConfigError(
                f"Folder {str(root)!r} holds {plain[name].name} and {path.name}, the same records "
                "twice by their names. Remove one of them, or name a single file."
            )
        plain[name] = path
        existing_path(path)  # or it is a pipe, say
    return files


_NEITHER = (
    " Give a csv, jsonl, json or parquet file, a folder of them or of save_to_disk, or a data "
    "set's id on the Hugging Face hub (owner/name)."
)


def _names_split(file: Path, split: str) -> bool:
    return re.match(rf"{re.escape(split)}(?![A-Za-z])", file.name, re.IGNORECASE) is not None


def near_paths(path: Path) -> str:
    """Says what stands near a path that does not exist, for errors."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(folder).parts[0]
    there = [entry.name for entry in list_folder(folder)]
    near = difflib.get_close_matches(missing, there, cutoff=0.5)
    if not near:
        return f" The nearest folder that exists is {str(folder)!r}."
    return f" In {str(folder)!r} there is {', '.join(map(repr, near))}."
