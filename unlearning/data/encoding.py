"""Whether a file of any size is UTF-8, and what identifies it, read block by block."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

from unlearning.errors import ConfigError

BLOCK = 1 << 20


def file_digest(path: Path, is_text: bool = True, block_size: int = BLOCK) -> str:
    """sha256 of a file; of text, with a check that it is UTF-8.

    Raises:
        ConfigError: it is in another encoding; says at which byte it stops being UTF-8.
    """
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    read = lines = 0
    with path.open("rb") as file:
        while True:
            block = file.read(block_size)
            if is_text:
                begun = decoder.getstate()[0]  # a letter that the block before broke off in
                try:
                    decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    bad = error.start - len(begun)
                    line = lines + block.count(b"\n", 0, max(bad, 0)) + 1
                    raise _undecodable(path, read + bad, error.object[error.start], line) from error
                if (nul := block.find(b"\0")) >= 0:
                    raise ConfigError(
                        f"{path} is not UTF-8 text: there is a NUL byte at position {read + nul}. "
                        "Convert it, for example: iconv -f UTF-16 -t UTF-8 OLD > NEW"
                    )
            if not block:
                return digest.hexdigest()
            digest.update(block)
            read, lines = read + len(block), lines + block.count(b"\n")


def _undecodable(path: Path, position: int, byte: int, line: int) -> ConfigError:
    # UTF-16 begins with a mark, which UTF-8 has no place for.
    likely = "UTF-16" if position == 0 and byte in (0xFE, 0xFF) else "WINDOWS-1252"
    return ConfigError(
        f"{path} is not UTF-8: byte {byte:#04x} at position {position} (line {line}) cannot be "
        f"decoded; it looks like {likely}. Convert it, for example: iconv -f {likely} -t UTF-8 OLD "
        "> NEW"
    )
