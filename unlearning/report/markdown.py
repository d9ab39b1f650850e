"""Escapes text for Markdown."""

from __future__ import annotations

import re


def inline(text: str) -> str:
    """Escapes a text for one line of Markdown, so that nothing in it is markup or HTML."""
    one_line = " ".join(text.split())
    one_line = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    one_line = re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", one_line)
    # What could start a list, a rule or a table only does so at the start of a line.
    return re.sub(r"^([-+=]|\d+[.)](?=\s|$))", lambda found: _escape_last(found[0]), one_line)


def _escape_last(start: str) -> str:
    return f"{start[:-1]}\\{start[-1]}"
