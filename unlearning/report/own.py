"""Tells reports of versions that kept no record of them from other files of the same name."""

from __future__ import annotations

_TITLES = (b"<title>Unlearning report: ", b"<title>Sweep report: ")
_POLICY = b"content=\"default-src 'none'; style-src 'unsafe-inline';"
_TABLE = b"job,status,exit_code,seconds,"
_HEAD = 2000  # bytes


def is_page(content: bytes) -> bool:
    """Whether this is a `report.html` or `sweep.html` of version 0.4 or later."""
    head = content[:_HEAD]
    ours = _POLICY in head and any(title in head for title in _TITLES)
    return ours and head.startswith(b"<!doctype html>")


def is_page_or_table(content: bytes) -> bool:
    """Whether this is a page, or a sweep's `metrics.csv` of version 0.5 or before."""
    return is_page(content) or content.startswith(_TABLE)
