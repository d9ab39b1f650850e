"""What is wrong with a file's bytes, found block by block as in the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlearning.data.records.encoding import check_utf8, file_digest
from unlearning.data.records.files import read_text
from unlearning.errors import ConfigError

CONTENTS = [
    b"", b"plain\n", "Köln\n𝄞\u2028".encode(), b"\xef\xbb\xbfmark\r\n", b"a\nb\xf6c",
    b"\xef\xbb\xbf\xff", "Köln".encode("utf-16"), "Köln".encode("utf-16-le"),
    "Köln ü".encode("utf-16-be"), "\u6f22\n\u6f22".encode("utf-16-le"), b"a\0b\n\0",
    b"a\0\n\n\xff", b"\n\xf0\x9d\x84", b"\xff", b"\xfe", "𝄞".encode()[:2] + b"a",
    b"\n\n" + "𝄞".encode()[:3] + b"\n", b"\xed\xa0\x80", b"\xef\xbb", b"\0",
    b"a stray one\namid much te\0xt, as some tools leave it",
]  # fmt: skip


def of_the_whole(path: Path) -> str | None:
    """The message for a file that is decoded in one piece; a bad byte comes before a NUL."""
    data = path.read_bytes()
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    convert = "Convert it, for example: iconv -f {} -t UTF-8 OLD > NEW"
    try:
        text = data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        position = start + error.start
        likely = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        line = data.count(b"\n", 0, position) + 1
        return (
            f"{path} is not UTF-8: byte {data[position]:#04x} at position {position} (line {line}) "
            f"cannot be decoded; it looks like {likely}. {convert.format(likely)}"
        )
    nul = text.find("\0")
    if nul < 0:
        return None
    position, line = start + len(text[:nul].encode()), text.count("\n", 0, nul) + 1
    remove = "Remove it, for example: tr -d '\\000' < OLD > NEW"
    return (
        f"{path} is not UTF-8 text: there is a NUL byte at position {position} (line {line}). "
        f"{convert.format('UTF-16') if 20 * text.count(chr(0)) > len(data) else remove}"
    )


@pytest.mark.parametrize("content", CONTENTS)
def test_the_message_is_that_of_the_whole_whatever_the_blocks(tmp_path: Path, content: bytes):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    expected = of_the_whole(path)
    if expected is None:
        assert read_text(path).encode() == content.removeprefix(b"\xef\xbb\xbf")
    for size in (2, 3, 4, 5, 1 << 16):
        for read in (check_utf8, lambda p, s: file_digest(p, block_size=s)):
            if expected is None:
                read(path, size)
                continue
            with pytest.raises(ConfigError) as caught:
                read(path, size)
            assert str(caught.value) == expected
