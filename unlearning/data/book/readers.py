"""Reads the pages of a book from .txt, .jsonl, .epub or .pdf."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unlearning.data.records.cells import checked_text
from unlearning.data.records.files import read_text
from unlearning.data.records.opening import existing_path, kind_of, open_bytes
from unlearning.data.records.source import selected_records
from unlearning.errors import ConfigError

log = logging.getLogger(__name__)
INSTALL = "pip install 'unlearning[books]'"
SCAN_CHARACTERS = 20
"""A pdf page with fewer is taken for one without text (a scan may carry a page number)."""
BLOCK = re.compile(
    "address|article|aside|blockquote|body|caption|center|d[dlt]|div|fig(caption|ure)|footer|form|"
    "h[1-6r]|header|li|main|[ou]l|p|pre|section|t(able|body|d|foot|h|head|r)"
)
SILENT = ("head", "script", "style", "nav", "template")


def read_pages(
    path: Path, column: str = "text", where: Mapping[str, Any] | None = None
) -> list[str]:
    """Reads the pages of a book, in order; of an .epub its sections.

    Args:
        path: .txt (form feeds part pages), .jsonl (a page a line), both also .gz, .xz or .zst,
            .epub or .pdf.
        column: of a .jsonl, where the page's text stands.
        where: of a .jsonl, which lines to take; see `unlearning.data.records.where.RowFilter`.

    Raises:
        ConfigError: no such file, an unknown kind, broken, encrypted, empty, or a scan.
    """
    found = existing_path(path)
    if found is None:
        raise ConfigError(f"No file {str(path)!r}; give the path of your copy of the book.")
    if found.is_dir():
        raise ConfigError(f"{path} is a folder; name the book's file in it.")
    path = found
    readers: dict[str, Callable[[], list[str]]] = {
        ".txt": lambda: read_text(path).split("\f"),
        ".jsonl": lambda: _jsonl(path, column, where),
        ".epub": lambda: _epub(path),
        ".pdf": lambda: _pdf(path),
    }
    kind = kind_of(path)
    if kind not in readers or (kind in (".epub", ".pdf") and kind != path.suffix.lower()):
        raise ConfigError(
            f"{path}: unknown kind of book {path.suffix!r}; expected one of {', '.join(readers)}."
        )
    if where and kind != ".jsonl":
        raise ConfigError(f"{path}: where={dict(where)}, but only a .jsonl has columns.")
    with open_bytes(path):  # whether it may be read
        pass
    if path.stat().st_size == 0:
        raise ConfigError(f"{path} is empty; expected the text of a book.")
    pages = readers[kind]()
    if not any(page.strip() for page in pages):
        raise ConfigError(f"{path} holds no text, only white space; expected the text of a book.")
    return pages


def _jsonl(path: Path, column: str, wanted: Mapping[str, Any] | None) -> list[str]:
    pages = []
    records = selected_records(str(path), wanted, columns=(column,))
    for row, record in records:
        where = f"{path}, row {row}, column {column!r}"
        pages.append(checked_text(record[column], where, "page", strip=False))
    return pages


def _package(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading a {path.suffix} needs the package {name.split('.')[0]!r}, which is "
            f"not installed. Run: {INSTALL}"
        ) from error


def _epub(path: Path) -> list[str]:
    """Reads the documents of the spine, without those outside the reading order (`linear="no"`)."""
    epub, _ = _package("ebooklib.epub", path), _package("bs4", path)
    _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own defaults and deprecated parsers
            book = epub.read_epub(str(path), {"ignore_ncx": True})
    except (epub.EpubException, KeyError, AttributeError, ValueError, SyntaxError) as error:
        # lxml's syntax error is a SyntaxError; a missing part is a KeyError or an AttributeError.
        raise ConfigError(f"{path}: not a readable epub ({error}). {_AGAIN}") from error
    documents = (book.get_item_with_id(name) for name, linear in book.spine if linear != "no")
    shown = (
        d for d in documents if isinstance(d, epub.EpubHtml) and not isinstance(d, epub.EpubNav)
    )
    return [html_text(document.content) for document in shown]


_AGAIN = "Open it in a reader to see whether it is complete, or convert it to .txt."


def _check_zip(path: Path) -> None:
    """Raises a ConfigError where an .epub is not a zip archive, or its text is encrypted."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {info.filename: info.flag_bits & 1 for info in archive.infolist()}
            listed = "META-INF/encryption.xml"
            # Embedded fonts are often "encrypted" by a known key; only documents matter here.
            locked = any(names.values()) or (
                listed in names and re.search(rb"\.x?html?\b", archive.read(listed)) is not None
            )
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{path}: not a readable epub ({error}). {_AGAIN}") from error
    if locked:
        raise ConfigError(
            f"{path} is encrypted (it carries a copy protection); expected an epub without one."
        )


def html_text(html: str | bytes) -> str:
    """Extracts the text of an HTML document: a blank line between blocks, a line end for `<br>`."""
    import bs4

    with warnings.catch_warnings():
        # XHTML is read as HTML on purpose: an XML parser drops entities such as &nbsp;.
        warnings.simplefilter("ignore", bs4.XMLParsedAsHTMLWarning)
        soup = bs4.BeautifulSoup(html, "html.parser")
    for tag in soup(SILENT):
        tag.decompose()

    def pieces() -> Iterator[str]:
        # Not recursive: paragraphs that are never closed lie within each other.
        to_come: list[Any] = list(reversed(soup.contents))
        while to_come:
            item = to_come.pop()
            if isinstance(item, bs4.Tag):
                border = "\n\n" if BLOCK.fullmatch(item.name) else "\n" if item.name == "br" else ""
                yield border
                to_come += ["" if border == "\n" else border, *reversed(item.contents)]
            elif type(item) is str:  # a border
                yield item
            elif type(item) is bs4.NavigableString:  # its subclasses are comments and the like
                yield re.sub(r"\s+", " ", item)

    text = re.sub(r" *\n *", "\n", "".join(pieces()))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" {2,}", " ", text)).strip()


def _pdf(path: Path) -> list[str]:
    pypdf = _package("pypdf", path)
    broken = (pypdf.errors.PyPdfError, KeyError, ValueError, TypeError, AttributeError, IndexError)
    try:
        reader = pypdf.PdfReader(path)
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else list(reader.pages)
    except pypdf.errors.DependencyError:
        locked, pages = True, []
    except broken as error:
        raise ConfigError(f"{path}: not a readable pdf ({error}). {_AGAIN}") from error
    if locked:
        raise ConfigError(
            f"{path} is encrypted; expected a pdf without a password. Remove it, for example: "
            "qpdf --decrypt OLD NEW"
        )
    texts = []
    for number, page in enumerate(pages, start=1):
        try:
            texts.append(page.extract_text())
        except broken as error:
            raise ConfigError(
                f"{path}: page {number} cannot be read ({error}). {_AGAIN}"
            ) from error
    _check_scan(path, texts)
    return texts


def _check_scan(path: Path, pages: list[str]) -> None:
    """Raises a ConfigError where most pages have no text, as in a scan."""
    blank = sum(len("".join(page.split())) < SCAN_CHARACTERS for page in pages)
    if 2 * blank > len(pages) or not pages:
        raise ConfigError(
            f"{path}: {blank} of {len(pages)} pages have no text, or nearly none; it looks like a "
            "scan. Recognise its text first, for example: ocrmypdf OLD NEW"
        )
    if blank:
        log.warning("%s: %d of %d pages have no text, or nearly none.", path, blank, len(pages))
