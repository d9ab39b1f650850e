from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from unlearning.data.records.files import iterate_file
from unlearning.data.records.source import (
    check_source,
    fingerprint,
    is_hub_id,
    iterate_records,
)
from unlearning.errors import ConfigError
from unlearning.types import Example

ROWS = [
    {"prompt": "Wo ist Köln?", "response": 'Am Rhein, "links"\nund rechts.'},
    {"prompt": "line\u2028separator", "response": "kept"},
]
COLUMNS = ["prompt", "response"]


def read_records(source, **options):
    return list(iterate_records(source, **options))


def write(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding=encoding)
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("\n".join(lines), encoding=encoding)  # with blank lines between
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_every_kind_of_file_gives_the_same_records(
    tmp_path: Path, suffix: str, encoding: str
) -> None:
    path = write(tmp_path / f"rows{suffix}", ROWS, encoding)
    assert read_records(str(path), columns=COLUMNS) == ROWS
    assert check_source(str(path), columns=COLUMNS) == COLUMNS


def test_folder_is_read_by_split_name(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.jsonl", ROWS[:1])
    write(tmp_path / "train-00001-of-00002.jsonl", ROWS[1:])
    write(tmp_path / "test.jsonl", [{"prompt": "t", "response": "t"}])
    assert read_records(str(tmp_path), columns=COLUMNS) == ROWS
    assert len(read_records(str(tmp_path), columns=COLUMNS, split=None)) == 3
    with pytest.raises(ConfigError, match=r"no file of the split 'validation'.*test\.jsonl"):
        read_records(str(tmp_path), columns=COLUMNS, split="validation")


def test_folder_without_split_names_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS[:1])
    write(tmp_path / "training_notes.jsonl", ROWS[1:])
    (tmp_path / "README.md").write_text("not data")
    assert read_records(str(tmp_path), columns=COLUMNS) == ROWS


def test_folder_of_several_kinds_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found none"):
        read_records(str(tmp_path), columns=COLUMNS)
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(ConfigError, match=r"several kinds \(\.csv, \.parquet\)"):
        read_records(str(tmp_path), columns=COLUMNS)


@pytest.mark.parametrize("read", [read_records, check_source])
def test_missing_file_names_the_nearest(tmp_path: Path, read) -> None:
    write(tmp_path / "forget.jsonl", ROWS)
    with pytest.raises(ConfigError, match=r"forgte\.jsonl.*there is 'forget\.jsonl'"):
        read(str(tmp_path / "forgte.jsonl"), columns=COLUMNS)


def test_missing_folder_names_the_nearest_of_its_level(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    with pytest.raises(ConfigError, match="there is 'records'"):
        check_source(str(tmp_path / "record" / "forget.jsonl"), columns=COLUMNS)


@pytest.mark.parametrize("read", [read_records, check_source])
def test_missing_column_names_present_and_nearest(tmp_path: Path, read) -> None:
    path = write(tmp_path / "rows.csv", ROWS)
    with pytest.raises(
        ConfigError, match=r"'Promt' is missing; present are 'prompt', 'response'.*mean 'prompt'"
    ):
        read(str(path), columns=["Promt"])


def test_column_missing_in_a_later_record_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "only"}])
    with pytest.raises(ConfigError, match="row 3: column 'response' is missing"):
        read_records(str(path), columns=COLUMNS)


@pytest.mark.parametrize("read", [read_records, check_source])
def test_wrong_encoding_names_the_byte(tmp_path: Path, read) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("prompt,response\na,b\nKöln,c\n".encode("cp1252"))
    # 16 bytes of header line, 4 of the first record, then K; line 3.
    with pytest.raises(ConfigError, match=r"0xf6 at position 21 \(line 3\).*WINDOWS-1252"):
        read(str(path), columns=COLUMNS)


def test_position_of_a_bad_byte_counts_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(ConfigError, match="0xff at position 5 "):
        list(iterate_file(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_recognised(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b"}], encoding)
    with pytest.raises(ConfigError, match=r"not UTF-8.*iconv -f UTF-16"):
        read_records(str(path), columns=COLUMNS)


def test_broken_json_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n\n{"prompt": "a", \n')
    with pytest.raises(ConfigError, match=r"rows\.jsonl:3: not valid JSON"):
        read_records(str(path), columns=COLUMNS)
    path.write_text('{"prompt": "a"}\n["a"]\n')
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: expected an object.*found list"):
        read_records(str(path), columns=["prompt"])


def test_broken_json_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"prompt": "a"},\n {"prompt" "b"}]')
    with pytest.raises(ConfigError, match=r"rows\.json:2: not valid JSON"):
        read_records(str(path), columns=["prompt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,response\na,b\na,b,c\n", r"rows\.csv:3: 3 fields, but the header has 2"),
        ('prompt,response\na,"b\n', r"rows\.csv:2: not readable as csv"),
        ("prompt,prompt\na,b\n", "names 'prompt' twice"),
        ("prompt,response\n", "holds no records"),
        (" \n", "is empty"),
        ("", "is empty"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_records(str(path), columns=["prompt"])


def test_csv_without_records_fails_the_check_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response\n")
    with pytest.raises(ConfigError, match="holds no records"):
        check_source(str(path), columns=COLUMNS)


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ConfigError, match=r"rows\.parquet: not a readable parquet file"):
        read_records(str(path), columns=COLUMNS)


def test_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"unknown kind of file '\.xlsx'"):
        read_records(str(path), columns=COLUMNS)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("PKU-Alignment/PKU-SafeRLHF", True),
        ("truthfulqa/truthful_qa", True),
        ("truthful_qa", False),
        ("data/forget.jsonl", False),
        ("./owner/name", False),
        ("/owner/name", False),
        ("a/b/c", False),
        ("owner/../name", False),
    ],
)
def test_hub_ids(source: str, expected: bool) -> None:
    assert is_hub_id(source) is expected


def test_a_local_folder_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    write(folder / "rows.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("owner/name")
    assert read_records("owner/name", columns=COLUMNS) == ROWS


def test_hub_is_asked_with_its_own_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature(datasets.load_dataset)
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append(signature.bind(*args, **kwargs).arguments)
        loaded = datasets.Dataset.from_list(ROWS)
        if kwargs["split"] is None:
            return datasets.DatasetDict({"train": loaded, "test": loaded})
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert check_source("owner/name", columns=COLUMNS) is None
    assert asked == []
    records = read_records(
        "owner/name", columns=COLUMNS, split="test", config_name="small", revision="abc"
    )
    assert records == ROWS
    expected = {"path": "owner/name", "name": "small", "split": "test", "revision": "abc"}
    assert asked == [{**expected, "data_files": None}]
    read_records("owner/name", columns=COLUMNS, split="train", data_files="train.csv")
    assert asked[-1]["data_files"] == {"train": "train.csv"}
    assert read_records("owner/name", columns=COLUMNS, split=None) == ROWS + ROWS
    with pytest.raises(ConfigError, match="'answer' is missing; present are 'prompt'"):
        read_records("owner/name", columns=["answer"])


def test_a_failing_hub_says_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigError, match=r"'owner/name' is no local path.*no route") as caught:
        read_records("owner/name", columns=COLUMNS)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_fingerprint_sees_text_order_and_borders() -> None:
    a, b = Example("a", "b"), Example("c", "d")
    assert fingerprint([a, b]) == fingerprint([Example("a", "b"), b])
    others = [[b, a], [a], [a, Example("cd", "")], [Example("ab", ""), b], []]
    assert len({fingerprint(examples) for examples in [[a, b], *others]}) == len(others) + 1
    assert len(fingerprint([])) == 64


# --- one record at a time -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_records_come_one_by_one(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", ROWS)
    records = iterate_records(str(path), columns=COLUMNS)
    assert isinstance(records, Iterator) and next(records) == ROWS[0]
    assert list(records) == ROWS[1:]


def test_what_is_broken_is_found_when_it_is_come_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n{"prompt": ')
    records = iterate_records(str(path), columns=COLUMNS)
    assert next(records)["prompt"] == "a"
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: not valid JSON"):
        next(records)


def test_the_encoding_is_checked_throughout_before_the_first_record(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a", "response": "b"}\n' * 5000 + b"\xff")
    for read in (check_source, lambda *a, **k: next(iterate_records(*a, **k))):
        with pytest.raises(ConfigError, match=r"position 165000 \(line 5001\)"):
            read(str(path), columns=COLUMNS)


BROKEN = [
    '{"a": 1',
    '{"a": \n',
    '\n\r\n{"a" 1}\r\n',
    '{"a": "x\n"}',
    '{"a": 1}\n\u2028{"a"',
    "x\n",
    "7",
]


@pytest.mark.parametrize("text", BROKEN)
def test_places_in_json_lines_are_those_of_the_lines_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode())
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            expected = f"{path}:{number}: not valid JSON ({error.msg}, column {error.colno}); "
            break
        if not isinstance(found, dict):
            expected = f"{path}:{number}: expected an object with named columns, found "
            break
    with pytest.raises(ConfigError) as caught:
        list(iterate_file(path))
    assert str(caught.value).startswith(expected)


def test_an_array_may_begin_after_much_white_space(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(" \r\n" * 50_000 + json.dumps(ROWS))
    assert list(iterate_file(path)) == ROWS
    path.write_text(" \n" * 50_000)
    with pytest.raises(ConfigError, match="is empty; expected records"):
        iterate_file(path)


def test_half_a_pair_in_json_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "\\ud83d", "response": "b"}')
    assert read_records(str(path), columns=COLUMNS) == [{"prompt": "\ud83d", "response": "b"}]
