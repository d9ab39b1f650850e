"""Keeps the results of stages under a hash of their inputs, so that no stage runs twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from unlearning.files import aside_of, atomic_write
from unlearning.locks import locked
from unlearning.once import is_whole, lock_of, problem, remove_unfinished
from unlearning.run.process.ranks import Ranks
from unlearning.sums import write_sums
from unlearning.version import __version__

BLOCK, BLOCKS = 4096, 16
"""Bytes of a block of a model's file, and how many are compared."""


class Store:
    """Folders `<root>/<stage>/<key>`, each whole or absent.

    Args:
        root: where they lie; may be shared by runs side by side.
        ranks: of this run. Rank 0 alone looks, waits for other runs and makes.
    """

    def __init__(self, root: str | Path, ranks: Ranks | None = None) -> None:
        self.root, self.ranks = Path(root).expanduser(), ranks or Ranks()

    def path(self, stage: str, inputs: Mapping[str, Any]) -> Path:
        """Returns where the result of these inputs lies or would lie."""
        return self.root / stage / key_of(inputs)

    def get(
        self,
        stage: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        together: bool = False,
    ) -> tuple[Path, bool]:
        """Returns the folder of these inputs, made by `make(empty folder to be created)` if it is
        absent, or differs from its checksums; then the damaged one is renamed.

        Args:
            together: all ranks make it, in a process group; rank 0 creates and writes the folder.

        Returns:
            The folder, and whether it was there already.
        """
        folder = self.path(stage, inputs)
        if not self.ranks.leads:
            return folder, self._follow(folder, make, together)
        if folder.is_dir() and problem(folder) is None:
            return folder, self.ranks.share(True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_of(folder)):  # runs side by side wait here and then reuse
            if is_whole(folder):
                return folder, self.ranks.share(True)
            self.ranks.share(False)
            with atomic_write(folder) as aside:
                with self.ranks.together() if together else nullcontext():
                    make(aside)
                (aside / "inputs.json").write_text(_canonical(inputs), encoding="utf-8")
                write_sums(aside)
        self.ranks.share()
        return folder, False

    def remove_unfinished(self) -> None:
        """Removes what killed runs had begun to make."""
        if self.ranks.leads and self.root.is_dir():
            for stage in self.root.iterdir():
                if stage.is_dir():
                    remove_unfinished(stage)

    def _follow(self, folder: Path, make: Callable[[Path], None], together: bool) -> bool:
        """Waits for rank 0, the only one that holds the lock."""
        kept: bool = self.ranks.share()
        if not kept:
            if together:
                with self.ranks.together():
                    make(aside_of(folder))
            self.ranks.share()  # the folder stands
        return kept


def key_of(inputs: Mapping[str, Any]) -> str:
    """Computes a short hash of the inputs and the package's version."""
    return hashlib.sha256(f"{__version__} {_canonical(inputs)}".encode()).hexdigest()[:16]


def _canonical(inputs: Mapping[str, Any]) -> str:
    return json.dumps(inputs, sort_keys=True, indent=1)


def model_identity(name_or_path: str, revision: str | None = None) -> str:
    """Identifies a model by its name: a hub id with its revision, or a folder's files (a GGUF file)
    by name, size, time and a sample of what is in them."""
    folder = Path(name_or_path).expanduser()
    if not folder.exists():
        return f"{name_or_path}@{revision or 'main'}"
    files = [folder] if folder.is_file() else sorted(p for p in folder.iterdir() if p.is_file())
    stamps = [_stamp(path) for path in files]
    return f"{folder.resolve()}:{hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]}"


def _stamp(file: Path) -> tuple[str, int, int, str]:
    """Returns a file's name, size, time and a hash of blocks spread over it: one that was unpacked,
    or copied with its time, may be another model's of the same size and time."""
    known, digest = file.stat(), hashlib.sha256()
    last = max(0, known.st_size - BLOCK)
    with file.open("rb", buffering=0) as content:
        for number in range(BLOCKS):
            content.seek(last * number // (BLOCKS - 1))
            digest.update(content.read(BLOCK))
    return file.name, known.st_size, known.st_mtime_ns, digest.hexdigest()[:16]
