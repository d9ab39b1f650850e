"""Whatever is wrong with a JSON or YAML file is one kind of error."""

from __future__ import annotations

import pytest

from unlearning.files.parsing import parse_json, parse_yaml, read_json

DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ["", "{", DEEP, '{"a": ' * 5000, "1" * 6000, b"\xff\xfe\x00x"])
def test_no_json(text, tmp_path):
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)
    file = tmp_path / "file.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"\S"):
        read_json(file)


@pytest.mark.parametrize("text", ["a: [", "[" * 3000, "{" * 3000, "!!python/name:os.system", "\0"])
def test_no_yaml(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_yaml(text)


def test_what_is_right():
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_yaml("a: [1, 2.5, null]") == {"a": [1, 2.5, None]}
