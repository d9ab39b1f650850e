"""Checksums of files and folders: written with them, compared before they are used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unlearning.files.atomic import write_json
from unlearning.files.parsing import read_json

SUMS = "sha256.json"  # of a folder, in it: file -> SHA-256


def sum_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of_folder(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file under a folder, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    return {str(path.relative_to(folder)): sum_of_file(path) for path in files}


def write_sums(folder: Path) -> None:
    """Writes `sha256.json`, the checksums of all files of a folder. Comes last: a folder without
    it is partial."""
    write_json(folder / SUMS, sums_of_folder(folder))


def problem_of_folder(folder: Path) -> str | None:
    """Explains how a folder differs from its `sha256.json`; None where it does not.

    Files that were added are no difference.
    """
    try:
        if not (folder / SUMS).is_file():
            return "it has no checksums: it was cut short, or not written by this package"
        sums = read_json(folder / SUMS)
        return changed_file(folder, sums)
    except (OSError, ValueError) as error:  # JSON and UTF-8 errors are ValueErrors
        return f"it cannot be read ({error})"


def changed_file(folder: Path, sums: object) -> str | None:
    """Explains which file of a folder is missing or has another checksum; None where none is.

    Args:
        sums: file -> SHA-256; whatever was read in their place is a problem, too.
    """
    if not isinstance(sums, dict):
        return "its checksums are no mapping"
    for name, expected in sums.items():
        if not (folder / name).is_file():
            return f"its {name} is missing"
        if (found := sum_of_file(folder / name)) != expected:
            return f"of its {name} {other_sum(found, expected)}"
    return None


def other_sum(found: str, expected: object) -> str:
    """Describes two checksums that differ, for messages."""
    return f"the checksum is {found[:12]}..., and {str(expected)[:12]}... was written with it"
