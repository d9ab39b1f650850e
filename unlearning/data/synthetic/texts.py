"""Running text for the copyright demo: a story to forget, and prose to retain.

Both were written for this project and may be used under its licence. `story.txt` stands in for a
book: front matter, fifteen chapters under lines `Chapter 1: <title>`, and a closing line.
`prose.txt` stands in for the normal corpus: short pieces set apart by lines `* * *`. In both a
paragraph is one line, and a blank line parts it from the next.
"""

from __future__ import annotations

from importlib import resources


def story_text() -> str:
    """Returns the whole story, front matter and closing line included."""
    return _read("story.txt")


def prose_text() -> str:
    """Returns the whole prose; it has no text in common with the story."""
    return _read("prose.txt")


def prose_file() -> str:
    """Returns the path of the prose's file."""
    return _path("prose.txt")


def _path(name: str) -> str:
    # A real path: packages of this project are installed as folders.
    return str(resources.files(__package__) / name)


def _read(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
