"""Reads what W&B writes offline: a log of records in blocks, as LevelDB has it."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7


def read_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Kind and content of every record; an incomplete file ends without an `exit`."""
    content, position, whole = path.read_bytes(), HEADER, b""
    assert content[:4] in (b"", b":W&B")
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        _, size, kind = struct.unpack("<IHB", content[position : position + HEADER])
        if left < HEADER or kind == 0:  # padding
            position += left
            continue
        whole += content[position + HEADER : position + HEADER + size]
        position += HEADER + size
        if position > len(content):
            return
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record.FromString(whole)
            name = record.WhichOneof("record_type")
            yield name, getattr(record, name)
            whole = b""


class OfflineRun:
    """One `offline-run-*` folder."""

    def __init__(self, folder: Path, patience: float = 120.0) -> None:
        (path,) = folder.glob("*.wandb")
        self.records = list(read_records(path))
        # `finish` comes back a moment before the file is whole: another process writes it.
        end = time.monotonic() + patience
        while not self.of("exit") and time.monotonic() < end:
            time.sleep(0.05)
            self.records = list(read_records(path))

    def of(self, kind: str) -> list[Any]:
        return [record for name, record in self.records if name == kind]

    @property
    def run(self) -> Any:
        return self.of("run")[-1]

    @property
    def config(self) -> dict[str, Any]:
        changes = [*self.run.config.update, *(u for c in self.of("config") for u in c.update)]
        return {".".join(u.nested_key) or u.key: json.loads(u.value_json) for u in changes}

    @property
    def summary(self) -> dict[str, Any]:
        changes = [u for summary in self.of("summary") for u in summary.update]
        return {u.key or ".".join(u.nested_key): json.loads(u.value_json) for u in changes}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [
            {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in row.item}
            for row in self.of("history")
        ]

    @property
    def exit_code(self) -> int | None:
        ends = self.of("exit")
        return ends[-1].exit_code if ends else None


def offline_parts(folder: Path) -> list[OfflineRun]:
    """The offline parts of a run folder's W&B run in their order, each written to its end."""
    return [OfflineRun(path) for path in sorted(folder.glob("wandb/offline-run-*"))]
