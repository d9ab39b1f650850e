"""Opens files, compressed or not, by what a path is; every failure names the file."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unlearning.errors import ConfigError

COMPRESSED = (".gz", ".xz", ".zst")
TEXT = "utf-8-sig"  # UTF-8, without the byte order mark it may begin with
BLOCK = 1 << 16  # bytes


def kind_of(path: str | Path) -> str:
    """Returns the suffix that says what a file holds, in lower case: `.jsonl` of `a.JSONL.gz`."""
    path = Path(path)
    return (Path(path.stem) if path.suffix.lower() in COMPRESSED else path).suffix.lower()


def existing_path(source: str | Path) -> Path | None:
    """Returns the path of a file or folder; None where there is nothing.

    Raises:
        ConfigError: it is a pipe, a device or a socket, a link that leads to itself, may not be
            looked at, or is no possible name.
    """
    if not str(source).strip():
        raise ConfigError("A source is an empty text; give a file, a folder or a hub id.")
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError, ValueError) as error:  # "~nobody"; a NUL in the name
        raise ConfigError(f"{str(source)!r} cannot be opened: {_reason(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise ConfigError(
            f"{str(source)!r} is {what}, which can be read once at most; write its content to a "
            "file and name that."
        )
    return path


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressed by its suffix. What fails while it is open says which
    file it was.

    Raises:
        ConfigError: it cannot be opened or read, is damaged or cut off, or needs zstandard.
    """
    try:
        with _opener(path) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ConfigError(
            f"{path}: cannot be decompressed as {path.suffix.lower()}; it is damaged, cut off, or "
            f"no such file ({error}). Copy or compress it again."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {_reason(error)}") from error


@contextmanager
def open_text(path: Path, newline: str | None) -> Iterator[IO[str]]:
    """Opens a file of UTF-8, as `open_bytes`; `newline` as of the built-in `open`."""
    with open_bytes(path) as file, io.TextIOWrapper(file, TEXT, newline=newline) as text:
        yield text


def _opener(path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    if suffix == ".xz":
        return lzma.open(path)
    if suffix == ".zst":
        return io.BufferedReader(_Zstandard(path), BLOCK)
    return path.open("rb")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


class _Zstandard(io.RawIOBase):
    """Reads a .zst file of one or more frames. Not the package's own reader, to which a file that
    is cut off is one that ends there."""

    def __init__(self, path: Path) -> None:
        try:
            import zstandard  # imported here, since it is an extra
        except ImportError as error:
            raise ConfigError(
                f"{path}: reading a .zst needs the package 'zstandard', which is not installed. "
                "Run: pip install 'unlearning[zst]'"
            ) from error
        self._error = zstandard.ZstdError
        self._new: Any = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj
        self._file, self._frame, self._held = path.open("rb"), self._new(), b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and (block := self._left() or self._file.read(BLOCK)):
            if self._frame.eof:
                self._frame = self._new()
            try:
                self._held, self._begun = self._frame.decompress(block), True
            except self._error as error:
                raise EOFError(str(error)) from error
        if not self._held and not (self._begun and self._frame.eof):
            raise EOFError("the file ends within a frame")
        part, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _left(self) -> bytes:
        return self._frame.unused_data if self._frame.eof else b""

    def close(self) -> None:
        self._file.close()
        super().close()
