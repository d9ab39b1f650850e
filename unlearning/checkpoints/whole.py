"""Writes checkpoints atomically with a checksum, and verifies them before they are read.

It is one file as `torch.save` writes it, a zip archive; the archive's comment is the SHA-256 of the
rest. File and sum are one, so one rename makes both appear, and torch reads the file as usual. A
partial file has no comment, and a changed one has another sum.

Some strategies write a folder instead (DeepSpeed, FSDP's sharded state); the sums of its files are
then added to it last.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from unlearning.errors import ConfigError
from unlearning.files import sums
from unlearning.files.atomic import atomic_write, sync

LABEL = b"sha256:"
COMMENT = len(LABEL) + 64  # bytes
LENGTH = COMMENT.to_bytes(2, "little")  # stands before the comment; the sum takes it as zeros
BLOCK = 1 << 24


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning plugin that writes and reads whole checkpoints on a local disk.

    Only rank 0 is asked to write.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        write_whole(checkpoint, Path(path))

    def load_checkpoint(  # type: ignore[override]
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        if found := problem(Path(path)):
            raise ConfigError(
                f"The checkpoint {path} is not whole: {found}. Remove it; unlearn resume=<run "
                "folder> then goes on from the one before."
            )
        return super().load_checkpoint(path, map_location, weights_only)


def write_whole(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint atomically: at every moment there is the old file, none, or the whole new
    one.

    Raises:
        OSError: the disk is full, for example; nothing is left of the attempt.
    """
    with atomic_write(path) as aside, aside.open("wb") as file:
        _write_summed(checkpoint, file)


def write_sums(folder: Path) -> None:
    """Writes the checksums of a folder that a strategy has written; without them it counts as
    partial."""
    sync(folder)
    sums.write_sums(folder)


class _Summed:
    """File object that sums what torch writes. It keeps an error for later: torch would hide it
    behind one of its own, which says nothing of a full disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        pass


def _write_summed(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    summed = _Summed(file)
    torch.save(checkpoint, summed)  # type: ignore[arg-type]  # it needs no more of a file
    if summed.error is not None:
        raise summed.error
    file.seek(-len(LENGTH), os.SEEK_END)
    file.write(LENGTH + LABEL + summed.sum.hexdigest().encode())


def problem(path: Path) -> str | None:
    """Explains why this is not a whole checkpoint; None where it is one."""
    try:
        if path.is_dir():
            return sums.problem_of_folder(path)
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            rest = file.tell() - len(LENGTH) - COMMENT
            if rest < 0:
                return "it was cut short"
            file.seek(rest)
            end = file.read()
            if not end.startswith(LENGTH + LABEL):
                return "it has no checksum: it was cut short, or not written by this package"
            found, expected = _sum(file, rest), end[-64:].decode(errors="replace")
    except OSError as error:
        return f"it cannot be read ({error})"
    return None if found == expected else sums.other_sum(found, expected)


def _sum(file: BinaryIO, rest: int) -> str:
    """Sums the first `rest` bytes and the comment's length before there was a comment."""
    digest = hashlib.sha256()
    file.seek(0)
    while rest > 0:
        block = file.read(min(BLOCK, rest))
        digest.update(block)
        rest -= len(block) or rest  # a file that shrinks meanwhile gets another sum
    digest.update(bytes(len(LENGTH)))
    return digest.hexdigest()
