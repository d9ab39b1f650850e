"""Puts the repository's own pages on the site, and points their links to it.

README.md, CHANGELOG.md, CONTRIBUTING.md and experiments/ are written to be read in the repository.
Here they become pages, a link to a module becomes one to its reference, and any other file that a
page links to travels along.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#:]+)(?:#(?P<anchor>[^)\s]+))?\)")
OTHER_PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "experiments/**/*.md")


def on_files(files: Files, config: Any) -> Files:
    for pattern in OTHER_PAGES:
        for path in sorted(ROOT.glob(pattern)):
            _add(files, config, path.relative_to(ROOT).as_posix())
    for page in [file for file in files if file.is_documentation_page()]:
        for link in LINK.finditer(page.content_string):
            target = _linked(page, link["target"])
            if (ROOT / target).is_file() and not _module(target):
                _add(files, config, target)
    return files


def _add(files: Files, config: Any, path: str) -> None:
    if files.get_file_from_path(_on_site(path)) is None:
        source = str(ROOT / path)
        files.append(File.generated(config, _on_site(path), abs_src_path=source))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    def follow(link: re.Match[str]) -> str:
        target, anchor = _linked(page.file, link["target"]), link["anchor"]
        module = _module(target)
        if module:
            return f"[{link['text']}][{module}{'.' + anchor if anchor else ''}]"
        if (ROOT / target).is_dir():
            target += "/README.md"
            if not (ROOT / target).is_file():
                return link["text"]
        found = relpath(_on_site(target), dirname(page.file.src_uri) or ".")
        return f"[{link['text']}]({found}{'#' + anchor if anchor else ''})"

    return LINK.sub(follow, markdown)


def _on_site(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def _linked(page: File, target: str) -> str:
    """What a link names, from the repository's root."""
    source = Path(page.abs_src_path or "").relative_to(ROOT).as_posix()
    return normpath(f"{dirname(source)}/{target}").lstrip("/")


def _module(path: str) -> str | None:
    """The module in a file of the package."""
    if not path.startswith("unlearning/") or not path.endswith(".py"):
        return None
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
