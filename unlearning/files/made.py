"""The record of what was written into a run or sweep folder, so that nobody else's file is
overwritten or removed.

It is `made.json`: `{"by": "unlearning 0.7.0", "made": {"config.yaml": [], "model": [<SHA-256>]}}`.
What may be written again or removed has the checksums of what was written last; with another
content it is the user's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.files.atomic import write_bytes, write_json
from unlearning.files.parsing import read_json
from unlearning.files.sums import sum_of_file, sums_of_folder
from unlearning.version import __version__

RECORD = "made.json"
BY = "unlearning"


class Made:
    """What this package has made in a folder.

    Raises:
        ConfigError: there is a `made.json` that is none of ours, or is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._made: dict[str, list[str]] = _read(self.folder / RECORD)

    def has(self, name: str) -> bool:
        """Whether a file or folder of this name was made here."""
        return name in self._made

    def note(self, name: str, *sums: str) -> None:
        """Records a file or folder that is about to be made.

        Args:
            sums: see `content_sum`; none for what is not made again.
        """
        with _alone(self.folder):
            self._made = _read(self.folder / RECORD)
            self._note(name, list(sums))

    def owns(self, name: str) -> bool:
        """Whether the file or folder that is there is, to the byte, what was made here."""
        return content_sum(self.folder / name) in self._made.get(name, [])

    def write(self, contents: Mapping[str, bytes], recognised: Callable[[bytes], bool]) -> None:
        """Writes files atomically; those of the same names that are not ours are left alone.

        Args:
            contents: by name.
            recognised: whether an existing file was written by an older version, which kept no
                record.

        Raises:
            ConfigError: a file was not written here, or was changed since; none is written.
        """
        with _alone(self.folder):
            self._made = _read(self.folder / RECORD)
            old = {name: self._sum_of_own(name, recognised) for name in contents}
            for name, content in contents.items():
                # Both, since either may be there when this process ends here.
                self._note(name, [hashlib.sha256(content).hexdigest(), *old[name]])
                write_bytes(self.folder / name, content, shared=True)

    def _sum_of_own(self, name: str, recognised: Callable[[bytes], bool]) -> list[str]:
        path = self.folder / name
        if not os.path.lexists(path):
            return []
        if path.is_file():
            content = path.read_bytes()
            found = hashlib.sha256(content).hexdigest()
            if found in self._made[name] if name in self._made else recognised(content):
                return [found]
        raise ConfigError(
            f"{path} was not written by unlearning, or was changed since, and is not overwritten. "
            "Move it away or rename it, and do this again."
        )

    def _note(self, name: str, sums: list[str]) -> None:
        self._made[name] = sums
        content = {"by": f"{BY} {__version__}", "made": self._made}
        write_json(self.folder / RECORD, content)


def content_sum(path: Path) -> str:
    """Returns the SHA-256 of a file; of a folder that of the names and checksums of its files."""
    if not path.is_dir():
        return sum_of_file(path)
    return hashlib.sha256(json.dumps(sums_of_folder(path)).encode()).hexdigest()


def _read(path: Path) -> dict[str, list[str]]:
    if not os.path.lexists(path):
        return {}
    try:
        found: Any = read_json(path)
        if str(found["by"]).startswith(BY):
            return {str(name): list(map(str, sums)) for name, sums in found["made"].items()}
        why = "it is somebody else's"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = f"it cannot be read: {error!r}"
    raise ConfigError(
        f"{path} should say which files in there are ours, and {why}. Move it away, and do this "
        "again; files that no record names are then left as they are."
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks a folder without a file in it, where its disk can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
