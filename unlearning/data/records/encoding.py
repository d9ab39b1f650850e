"""Computes digests of files of any size, and checks that they are UTF-8, block by block."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from pathlib import Path

from unlearning.data.records.opening import open_bytes
from unlearning.errors import ConfigError

BLOCK = 1 << 16  # bytes
REMEDY = "Convert it, for example: iconv -f {} -t UTF-8 OLD > NEW"
REMOVE_NUL = "Remove it, for example: tr -d '\\000' < OLD > NEW"
PACKED = {b"\x1f\x8b": "a gzip file", b"\xfd7": "an xz file", b"(\xb5": "a zstandard file"}
"""The first two bytes of compressed files."""


def file_digest(path: Path, is_text: bool = True, block_size: int = BLOCK) -> str:
    """Returns the sha256 of a file; of text, checks that it is UTF-8.

    Raises:
        ConfigError: it is in another encoding; says at which byte it stops being UTF-8.
    """
    digest = hashlib.sha256()
    blocks = _blocks(path, block_size)
    for block in _checked(path, blocks) if is_text else blocks:
        digest.update(block)
    return digest.hexdigest()


def check_utf8(path: Path, block_size: int = BLOCK) -> None:
    """Reads a file through and checks that it is UTF-8.

    Raises:
        ConfigError: it is in another encoding; says at which byte it stops being UTF-8.
    """
    for _ in _checked(path, _blocks(path, block_size)):
        pass


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while block := file.read(size):
            yield block


def _checked(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder, read, lines = codecs.getincrementaldecoder("utf-8")(), 0, 0
    nuls, first_nul = 0, (0, 0)
    start = b""

    def decode(block: bytes, final: bool) -> None:
        begun = decoder.getstate()[0]  # a letter that the block before broke off in
        try:
            decoder.decode(block, final)
        except UnicodeDecodeError as error:
            bad = error.start - len(begun)
            line = lines + block.count(b"\n", 0, max(bad, 0)) + 1
            raise _undecodable(path, read + bad, error.object[error.start], line, start) from error

    for block in blocks:
        start = (start + block[:2])[:2]
        decode(block, final=False)
        if (found := block.count(b"\0")) and not nuls:
            place = block.index(b"\0")
            first_nul = read + place, lines + block.count(b"\n", 0, place) + 1
        nuls += found
        read, lines = read + len(block), lines + block.count(b"\n")
        yield block
    decode(b"", final=True)
    if nuls:
        # UTF-16 without its mark decodes, to text with a NUL after every letter.
        remedy = REMEDY.format("UTF-16") if 20 * nuls > read else REMOVE_NUL
        raise ConfigError(
            f"{path} is not UTF-8 text: there is a NUL byte at position {first_nul[0]} (line "
            f"{first_nul[1]}). {remedy}"
        )


def _undecodable(path: Path, position: int, byte: int, line: int, start: bytes) -> ConfigError:
    # UTF-16 begins with a mark, which UTF-8 has no place for.
    packed = next((name for begin, name in PACKED.items() if start.startswith(begin)), None)
    if packed:
        return ConfigError(
            f"{path} is no text but {packed}; decompress it, or name it by its kind "
            "(.gz, .xz and .zst are read as they are)."
        )
    likely = "UTF-16" if start in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
    return ConfigError(
        f"{path} is not UTF-8: byte {byte:#04x} at position {position} (line {line}) cannot be "
        f"decoded; it looks like {likely}. {REMEDY.format(likely)}"
    )
