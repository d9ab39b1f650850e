"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unlearning"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples() -> list[str]:
    """Found in the files' text, so that collecting these tests imports nothing."""
    return [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module(name, capsys):
    found = doctest.testmod(import_module(name), optionflags=FLAGS)
    assert found.attempted > 0, f"{name} has examples where doctest does not look"
    assert found.failed == 0, capsys.readouterr().out


def test_a_wrong_example_would_be_found(tmp_path, monkeypatch):
    (tmp_path / "wrong_example.py").write_text('"""\n>>> 1 + 1\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert doctest.testmod(import_module("wrong_example"), optionflags=FLAGS).failed == 1


def test_there_are_examples():
    assert len(modules_with_examples()) >= 20
