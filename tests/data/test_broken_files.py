"""Files as spreadsheets and scripts leave them: read right, or refused with the place."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unlearning.data import JsonlDataModule
from unlearning.data.records.files import iterate_file
from unlearning.errors import ConfigError

FIELDS = [["prompt", "response"], ["a, b", 'c "d"'], ["e;f\tg", "h|\r\ni"]]


def records(path: Path, content: str | bytes) -> list[dict[str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(iterate_file(path))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "\ufeff", "sep=X\r\n", "\ufeffSEP=X\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_csv_of_other_countries(tmp_path: Path, name: str, delimiter: str, first: str) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if text not in FIELDS[0] else text

    rows = "\r\n".join(delimiter.join(map(cell, row)) for row in FIELDS)
    found = records(tmp_path / name, first.replace("X", delimiter) + rows)
    assert found == [dict(zip(FIELDS[0], row, strict=True)) for row in FIELDS[1:]]


def test_a_comma_in_the_header_decides(tmp_path: Path) -> None:
    found = records(tmp_path / "a.csv", 'prompt,"a;b;c"\n1;2,3\n')
    assert found == [{"prompt": "1;2", "a;b;c": "3"}]
    assert records(tmp_path / "a.csv", "prompt\na;b\n") == [{"prompt": "a;b"}]  # one column


def test_a_line_of_another_delimiter_names_its_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.csv:4: 3 fields, .* contain semicolons"):
        records(tmp_path / "a.csv", "sep=;\na;b\n1;2\n1;2;3\n")


def test_a_cell_of_any_length(tmp_path: Path) -> None:
    text = "x" * 400_000
    assert records(tmp_path / "a.csv", f"prompt,response\na,{text}\n")[0]["response"] == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, r"a\.json.*: JSON that is nested too deeply"),
        ('{"a": ' + "[" * 100_000, r"a\.jsonl:2: JSON that is nested too deeply"),
        ('{"a": 1' + "0" * 5000 + "}", r"a\.jsonl:2: Exceeds the limit .* integer"),
        ('{"a": 1, "b": 2, "a": 3}', r"a\.jsonl:2: an object has the key 'a' more than once"),
        ('{"b": {"c": 1, "c": 1}}', r"a\.jsonl:2: an object has the key 'c' more than once"),
        ("[1, 2]", r"a\.jsonl:2: expected an object with named columns, found list"),
        ("7", r"a\.jsonl:2: expected an object with named columns, found int"),
        ('"text"', r"a\.jsonl:2: expected an object with named columns, found str"),
        ("null", r"a\.jsonl:2: expected an object with named columns, found NoneType"),
        ('{"a": 1} {"a": 2}', r"a\.jsonl:2: not valid JSON \(Extra data.*one complete object per"),
        ("{'a': 1}", r"a\.jsonl:2: not valid JSON .Expecting property name"),
    ],
)
def test_json_lines_that_are_no_records(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        records(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, r"a\.jsonl: JSON that is nested too deeply"),
        ("[1, 2]\n[3, 4]\n", r"a\.jsonl:2: not valid JSON \(Extra data.*each line is an object"),
        ('[{"a": 1}, 2]', r"a\.jsonl: record 2: expected an object.*found int"),
        ('[{"a": 1,\n"a": 2}]', "the key 'a' more than once; expected an array of objects"),
        ('{\n  "data": [{"a": 1}]\n}', r"a\.jsonl:1: not valid JSON.*or one array of objects"),
    ],
)
def test_whole_documents(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        records(tmp_path / "a.jsonl", text)


def test_an_integer_too_large_to_show_is_refused_as_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "response": 1' + "0" * 4000 + "}")
    with pytest.raises(
        ConfigError, match=r"row 1, .* the answer is 1000.*, expected text"
    ) as caught:
        JsonlDataModule(str(path)).setup()
    assert len(str(caught.value)) < 400


def test_ends_of_lines_and_marks_change_nothing(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        for end in (b"\n", b"\r\n", b"\n\n", b"\r\n \r\n"):
            content = mark + end.join([b'{"a": "1\\r\\n"}', b'{"a": "2\xe2\x80\xa8"}', b""])
            found = records(tmp_path / "a.jsonl", content)
            assert found == [{"a": "1\r\n"}, {"a": "2\u2028"}]


def test_a_stray_nul_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"NUL byte at position 45 \(line 3\)\. Remove it"):
        records(
            tmp_path / "a.csv", b"prompt,response\n" + b"a,b of some text\n" + b"c,more text \0"
        )


def test_a_spreadsheets_cp1252_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0x93 .*\(line 2\).*WINDOWS-1252.*iconv"):
        records(tmp_path / "a.csv", "prompt;response\r\n\u201cquoted\u201d;b".encode("cp1252"))


def test_an_empty_answer_says_which_key_leaves_it_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response\na,\nb,c\n")
    with pytest.raises(ConfigError, match=r"for example \+data\.forget\.skip_empty=true"):
        JsonlDataModule(str(path)).setup()
    with caplog.at_level(logging.INFO):
        JsonlDataModule(str(path), skip_empty=True, fractions=(1, 0, 0)).setup()
    assert "1 empty answers left out" in caplog.text
    path.write_text("prompt,response\na,\nb, \n")
    with pytest.raises(ConfigError, match=r"2 empty answers were left out"):
        JsonlDataModule(str(path), skip_empty=True).setup()
