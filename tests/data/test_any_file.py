"""Any bytes as a file give records or a ConfigError, never another exception."""

from __future__ import annotations

import csv
import io
import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlearning.classifier.jigsaw import JigsawDataModule
from unlearning.data import (
    BookCorpusDataModule,
    JsonlDataModule,
    LOTRDataModule,
    PKUDataModule,
    TruthfulQADataModule,
)
from unlearning.data.records.files import iterate_file
from unlearning.data.records.source import iterate_records
from unlearning.errors import ConfigError

QUICK = settings(
    max_examples=80, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
NAMES = ["prompt", "response", "is_safe", "options", "question", "best_answer", "correct_answers",
         "Question", "text", "comment_text", "toxic", "messages"]  # fmt: skip
SUFFIXES = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt", ".jsonl.gz", ".csv.xz",
            ".txt.zst"]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["nan", "['a', 'b']", "['a' 'b']", "False", "1.0", "\ud800", "{'a': 1}"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*NAMES, "text", "label", "role", "content"]), inner,
                      max_size=3),
    max_leaves=6,
)  # fmt: skip
RECORDS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12), max_size=4)


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, NAMES, delimiter=";" if len(rows) % 2 else ",")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


CONTENT = st.one_of(
    st.binary(max_size=200),
    RECORDS.map(_csv),
    RECORDS.map(_lines),
    RECORDS.map(lambda rows: json.dumps(rows).encode()),
    RECORDS.map(_lines).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.binary(max_size=3)).map(
            lambda cut: text[: cut[0]] + cut[1] + text[cut[0] :]
        )
    ),
)


def readers(source: str) -> list[Any]:
    more: dict[str, Any] = {"fractions": (1, 0, 0), "skip_empty": len(source) % 2 == 0}
    return [
        lambda: JsonlDataModule(source, **more).setup(),
        lambda: JsonlDataModule(
            source, alternatives={"choices": "options"}, label_column="toxic", **more
        ).setup(),
        lambda: JsonlDataModule(source, where={"is_safe": False, "toxic": [1, None]}).setup(),
        lambda: JsonlDataModule(source, dialogue_column="messages", **more).setup(),
        lambda: PKUDataModule(source, **more).setup(),
        lambda: TruthfulQADataModule(source, answers="correct", **more).setup(),
        lambda: JigsawDataModule(source, labels=("toxic",)).setup(),
        lambda: BookCorpusDataModule(source, streaming=False, **more).setup(),
        lambda: LOTRDataModule(source, **more).setup(),
    ]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@QUICK
@given(content=CONTENT, suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in readers(str(path)):
        with suppress(ConfigError):  # anything else is shown by hypothesis, with the bytes
            read()


@QUICK
@given(rows=RECORDS)
def test_what_is_written_is_what_is_read(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_lines(rows))
    if rows:
        found = list(iterate_records(str(path), columns=[]))
        assert json.dumps(found) == json.dumps(rows)


@QUICK
@given(place=st.integers(0, 2000), value=st.binary(min_size=1, max_size=4))
def test_a_parquet_file_with_other_bytes(tmp_path: Path, place: int, value: bytes) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"prompt": "a" * n, "response": "b", "toxic": n} for n in range(20)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + value + whole[place + len(value) :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            list(iterate_file(path))
        except ConfigError as error:
            assert str(path) in str(error)
