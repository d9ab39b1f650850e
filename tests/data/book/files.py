"""Books in every kind of file, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ebooklib import epub
from fpdf import FPDF


def write_epub(path: Path, sections: Sequence[str], outside: str | None = None) -> Path:
    """An epub whose spine holds the sections' HTML in this order (added in the reverse one).

    Args:
        outside: HTML of one more document, first in the spine but outside the reading order.
    """
    book = epub.EpubBook()
    book.set_identifier("made-on-the-spot")
    book.set_title("A book")
    documents = []
    for number, html in enumerate(sections):
        document = epub.EpubHtml(title=f"s{number}", file_name=f"s{number}.xhtml")
        document.content = f"<html><head><title>unseen</title></head><body>{html}</body></html>"
        documents.append(document)
    spine: list[object] = ["nav", *documents]
    if outside is not None:
        document = epub.EpubHtml(title="notes", file_name="notes.xhtml")
        document.content = f"<html><body>{outside}</body></html>"
        documents.append(document)
        spine.insert(0, (document, "no"))
    for document in reversed(documents):
        book.add_item(document)
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    book.toc = tuple(documents[:1])
    book.spine = spine
    epub.write_epub(str(path), book)
    return path


def write_pdf(path: Path, pages: Sequence[Sequence[str]], password: str | None = None) -> Path:
    """A pdf of the given lines, page by page; a page without lines has no text."""
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for lines in pages:
        pdf.add_page()
        for line in lines:
            pdf.cell(h=7, text=line, new_x="LMARGIN", new_y="NEXT")
    if password is not None:
        pdf.set_encryption("owner", user_password=password)
    pdf.output(str(path))
    return path
