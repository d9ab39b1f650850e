"""Offline files of W&B's that a kill has cut short, made whole again.

`wandb sync` stops at a file that ends in the middle of a record, and leaves out what a resumed run
has written since. Its files are logs as LevelDB has them: blocks of records, each with a header of
checksum, length and kind.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

MAGIC, FILE_HEADER = b":W&B", 7
BLOCK, RECORD_HEADER = 32768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4  # kinds of record that end an entry; 0 is padding


def mend_parts(folder: Path, run: str) -> None:
    """Cut the earlier offline parts of a run to their whole entries; remove those without any.

    Nobody writes them any more: a run folder has one process at a time, and W&B's own ends with it.

    Args:
        folder: `wandb/` of the run folder.
        run: the id.
    """
    for path in folder.glob(f"offline-run-*-{run}*/*.wandb"):
        content = path.read_bytes()
        if content and not content.startswith(MAGIC):
            continue  # of a version that we do not know
        end = whole_entries(content)
        if end <= FILE_HEADER:
            shutil.rmtree(path.parent)
        elif end < len(content):
            os.truncate(path, end)


def whole_entries(content: bytes) -> int:
    """Where the last complete entry ends."""
    position = end = FILE_HEADER
    while position + RECORD_HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEADER.size:
            position += left
            continue
        _, size, kind = RECORD_HEADER.unpack_from(content, position)
        if kind == 0:
            position += left
            continue
        position += RECORD_HEADER.size + size
        if kind in (WHOLE, LAST) and position <= len(content):
            end = position
    return end
