"""Every kind of book file, and what may be wrong with it."""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from pathlib import Path

import pytest

from tests.data.book.files import write_epub, write_pdf
from unlearning.data.book.readers import html_text, read_pages
from unlearning.errors import ConfigError

LINES = ["The quick brown fox jumps over", "the lazy dog."]


def test_txt_is_one_page_unless_form_feeds_part_it(tmp_path):
    path = tmp_path / "book.TXT"
    path.write_bytes(b"\xef\xbb\xbfOne\r\ntwo")
    assert read_pages(path) == ["One\r\ntwo"]
    path.write_text("one\ftwo")
    assert read_pages(path) == ["one", "two"]


def test_jsonl_is_a_page_a_line_in_order(tmp_path):
    path = tmp_path / "book.jsonl"
    pages = ["b\nc", "a", None]
    path.write_text("".join(json.dumps({"text": p, "page": 9}) + "\n" for p in pages))
    assert read_pages(path) == ["b\nc", "a", ""]
    with pytest.raises(ConfigError, match="column 'body' is missing; present are 'text', 'page'"):
        read_pages(path, "body")
    with pytest.raises(ConfigError, match="row 1, column 'page': the page is 9, expected text"):
        read_pages(path, "page")


def test_epub_sections_are_in_the_order_of_the_spine(tmp_path):
    path = write_epub(tmp_path / "b.epub", ["<p>one</p>", "<p>two</p>"], outside="<p>a note</p>")
    assert read_pages(path) == ["one", "two"]


def test_html_blocks_are_paragraphs():
    html = """<body><h2>Chapter&nbsp;1</h2><div><p>One <i>and</i>
        two,<b> three</b>.</p>loose<!-- unseen --></div><style>p {}</style>
        <blockquote><p>a verse<br/>another<br/></p></blockquote><ul><li>x</li><li>y</li></ul>
        <p>&nbsp;</p><p></p>end</body>"""
    assert html_text(html).split("\n\n") == [
        "Chapter 1", "One and two, three.", "loose", "a verse\nanother", "x", "y", "end",
    ]  # fmt: skip
    assert html_text(
        b'<?xml version="1.0" encoding="utf-8"?><p>caf\xc3\xa9 <a id="x"/>au lait</p>'
    ) == ("café au lait")


def test_pdf_pages_and_one_without_text(tmp_path, caplog):
    path = write_pdf(tmp_path / "book.pdf", [LINES, [], [*LINES, "More of it."]])
    with caplog.at_level(logging.WARNING):
        pages = read_pages(path)
    assert [page.split("\n") for page in pages] == [LINES, [""], [*LINES, "More of it."]]
    assert "1 of 3 pages have no text" in caplog.text


def test_a_scan_is_an_error_that_counts_pages_and_advises(tmp_path):
    path = write_pdf(tmp_path / "scan.pdf", [[], ["12"], [], LINES])
    with pytest.raises(ConfigError, match=r"3 of 4 pages have no text.*a scan.*ocrmypdf"):
        read_pages(path)


def test_an_encrypted_pdf(tmp_path):
    path = write_pdf(tmp_path / "book.pdf", [LINES], password="secret")
    with pytest.raises(ConfigError, match=r"is encrypted.*without a password.*qpdf"):
        read_pages(path)


@pytest.mark.parametrize("suffix", [".pdf", ".epub"])
def test_a_broken_file(suffix, tmp_path):
    path = tmp_path / f"book{suffix}"
    whole = write_pdf(path, [LINES]) if suffix == ".pdf" else write_epub(path, ["<p>one</p>"])
    data = whole.read_bytes()
    for broken in (data[: len(data) // 2], b"no such thing"):
        path.write_bytes(broken)
        with pytest.raises(ConfigError, match=rf"not a readable {suffix[1:]} \(.*complete"):
            read_pages(path)


def _repacked(path: Path, add: dict[str, str], leave_out: str = "") -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != leave_out}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, **add}.items():
            archive.writestr(name, content)


def test_an_epub_with_a_copy_protection(tmp_path):
    path = write_epub(tmp_path / "book.epub", ["<p>one</p>"])
    listed = "META-INF/encryption.xml"
    _repacked(path, {listed: '<CipherReference URI="fonts/a.ttf"/>'})
    assert read_pages(path) == ["one"]  # fonts do not matter
    _repacked(path, {listed: '<CipherReference URI="EPUB/s0.xhtml"/>'})
    with pytest.raises(ConfigError, match="is encrypted"):
        read_pages(path)


def test_an_epub_without_a_table_of_its_parts(tmp_path):
    path = write_epub(tmp_path / "book.epub", ["<p>one</p>"])
    _repacked(path, {}, leave_out="META-INF/container.xml")
    with pytest.raises(ConfigError, match="not a readable epub"):
        read_pages(path)
    _repacked(path, {"META-INF/container.xml": "<container"})
    with pytest.raises(ConfigError, match="not a readable epub"):
        read_pages(path)


@pytest.mark.parametrize(("suffix", "package"), [(".pdf", "pypdf"), (".epub", "ebooklib")])
def test_a_missing_package_names_the_command(suffix, package, tmp_path, monkeypatch):
    path = tmp_path / f"book{suffix}"
    path.write_bytes(b"x")
    for name in (package, "ebooklib.epub"):
        monkeypatch.setitem(sys.modules, name, None)
    expected = rf"'{package}', which is not installed. Run: pip install 'unlearning\[books\]'"
    with pytest.raises(ConfigError, match=expected):
        read_pages(path)


def test_a_wrong_encoding_is_named_with_its_place(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes("On a dit « café ».".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"byte 0xab at position 9 .*looks like WINDOWS-1252"):
        read_pages(path)


def test_no_such_file_folder_kind_or_text(tmp_path):
    with pytest.raises(ConfigError, match=r"No file .*gone\.txt"):
        read_pages(tmp_path / "gone.txt")
    with pytest.raises(ConfigError, match="is a folder"):
        read_pages(tmp_path)
    (tmp_path / "book.doc").write_text("x")
    with pytest.raises(
        ConfigError, match=r"'\.doc'; expected one of \.txt, \.jsonl, \.epub, \.pdf"
    ):
        read_pages(tmp_path / "book.doc")
    for name in ("a.txt", "a.jsonl", "a.epub", "a.pdf"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ConfigError, match="is empty"):
            read_pages(tmp_path / name)
    (tmp_path / "a.txt").write_text(" \n\f\n")
    with pytest.raises(ConfigError, match="holds no text, only white space"):
        read_pages(tmp_path / "a.txt")


def test_paragraphs_that_are_never_closed_are_parted_however_many():
    pytest.importorskip("bs4")
    found = html_text("<body>" + "".join(f"<p>Paragraph {n}.<br>More" for n in range(2000)))
    assert found.split("\n\n") == [f"Paragraph {n}.\nMore" for n in range(2000)]
