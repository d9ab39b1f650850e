"""Records selected by their columns, in every data set that reads records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from unlearning.classifier.jigsaw import JigsawDataModule
from unlearning.data import (
    BookCorpusDataModule,
    JsonlDataModule,
    LOTRDataModule,
    PKUDataModule,
    TruthfulQADataModule,
)
from unlearning.data.records.source import selected_records
from unlearning.errors import ConfigError

ROWS: list[dict[str, Any]] = [
    {"prompt": "a", "response": "A", "is_safe": False, "kind": "x", "score": 1, "note": None},
    {"prompt": "b", "response": "B", "is_safe": True, "kind": "y", "score": 2, "note": "n"},
    {"prompt": "c", "response": "C", "is_safe": False, "kind": "z", "score": 3.5, "note": ""},
    {"prompt": "d", "response": "D", "is_safe": True, "kind": "x", "score": 10, "note": "n"},
]
WANTED: list[tuple[dict[str, Any], str]] = [
    ({}, "abcd"),
    ({"is_safe": False}, "ac"),
    ({"kind": "x"}, "ad"),
    ({"kind": [" x", "z"]}, "acd"),
    ({"score": 2}, "b"),
    ({"score": [1, 3.5]}, "ac"),
    ({"score": {"min": 2}}, "bcd"),
    ({"score": {"min": 2, "max": 3.5}}, "bc"),
    ({"score": [1, {"min": 10}]}, "ad"),
    ({"is_safe": True, "kind": ["x", "y"], "score": {"max": 9}}, "b"),
    ({"note": None}, "ac"),
    ({"note": [None, "n"]}, "abcd"),
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def table(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("write", [jsonl, table])
@pytest.mark.parametrize(("where", "expected"), WANTED)
def test_what_is_taken_from_json_and_from_the_text_of_csv(
    tmp_path: Path, write, where: dict[str, Any], expected: str
) -> None:
    source = write(tmp_path / f"rows.{'csv' if write is table else 'jsonl'}", ROWS)
    found = list(selected_records(source, where, columns=("prompt",)))
    assert "".join(record["prompt"] for _, record in found) == expected
    assert [row for row, _ in found] == ["abcd".index(letter) + 1 for letter in expected]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"safe": False}, r"column 'safe' is missing; present are 'prompt', .*mean 'is_safe'"),
        ({"kind": "w"}, r"where\.kind='w': no record has this value.*there: 'x' \(2\), 'y' \(1\)"),
        ({"kind": ["x", "w"]}, r"where\.kind='w': no record"),  # a misspelt one of several
        ({"kind": "X"}, r"where\.kind='X': no record"),
        ({"score": 7}, r"where\.score=7: no record has this value.*1 \(1\), 2 \(1\), 3\.5 \(1\)"),
        ({"kind": "y", "score": 1}, "no record has all of where="),
        ({"score": {"min": 11}}, "no record has all of where="),
        ({"is_safe": "false"}, r"row 1, column 'is_safe' holds False \(bool\).*without quotation"),
        ({"score": "1"}, r"row 1, column 'score' holds 1 \(int\)"),
        ({"is_safe": 0}, "row 1, column 'is_safe' holds False, and where wants 0; write true or"),
        ({"kind": True}, "row 1, column 'kind': 'x' is neither true nor false"),
        ({"kind": {"min": 1}}, "row 1, column 'kind' holds 'x', which is no number"),
        ({"kind": {"of": 1}}, r"column 'kind' holds 'x', .*wants keys of a mapping: \{'of': 1\}"),
        ({"kind": []}, r"where\.kind=\[\] takes no record"),
        ({"score": {"min": "a"}}, "min and max must be numbers"),
        ({"score": {"min": float("nan")}}, "min and max must be numbers"),
        ({"score": float("nan")}, r"where\.score=nan: expected a text, a number"),
        ({"kind": object()}, r"where\.kind=.*: expected a text, a number"),
        ("kind=x", "where='kind=x': expected columns with values"),
        (["kind"], r"where=\['kind'\]: expected columns with values"),
    ],
)
def test_what_is_refused(tmp_path: Path, where: Any, message: str) -> None:
    source = jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(ConfigError, match=message):
        JsonlDataModule(source, where=where).setup()


def test_many_values_are_named_by_the_most_frequent(tmp_path: Path) -> None:
    rows = [{"kind": f"k{n}"} for n in range(1000)]
    rows = [*rows, *({"kind": "k7"} for _ in range(3))]
    with pytest.raises(ConfigError, match=r"Those there: 'k7' \(4\), .*, \.\.\.\.$") as caught:
        list(selected_records(jsonl(tmp_path / "r.jsonl", rows), {"kind": "no"}, columns=()))
    assert len(str(caught.value)) < 600


def test_the_check_finds_a_missing_column(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "rows.jsonl", ROWS)
    for module in (JsonlDataModule, PKUDataModule, TruthfulQADataModule):
        with pytest.raises(ConfigError, match=r"column 'kinds' is missing.*mean 'kind'"):
            module(source, where={"kinds": "x"}).check()


def test_rows_in_errors_are_those_of_the_source(tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "response": ""}]
    with pytest.raises(ConfigError, match=r"row 5, column 'response'"):
        JsonlDataModule(jsonl(tmp_path / "r.jsonl", rows), where={"is_safe": False}).setup()
    kept = JsonlDataModule(jsonl(tmp_path / "r.jsonl", rows), where={"is_safe": True})
    assert {e.prompt for s in ("train", "validation", "test") for e in kept.examples(s)} == {*"bd"}


def test_data_of_another_filter_has_another_fingerprint(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "rows.jsonl", ROWS)
    prints = {JsonlDataModule(source, where=w).fingerprint() for w, _ in (WANTED[0], *WANTED[3:6])}
    assert len(prints) == 4


BEAVER = [
    {"prompt": f"p{n // 2}", "response": f"r{n}", "is_safe": n != 1,
     "category": {"insult": n == 1, "theft,fraud": n == 2}}
    for n in range(6)
]  # fmt: skip


def beaver(source: str, **options: Any) -> set[str]:
    data = PKUDataModule(source, fractions=(1, 0, 0), **options)
    data.check()
    return {example.response for example in data.examples("train")}


def test_beavertails_and_its_categories(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "beaver.jsonl", BEAVER)
    assert beaver(source) == {"r1"}
    assert beaver(source, answers="safe") == {"r0", "r2", "r3", "r4", "r5"}
    assert beaver(source, answers="related") == {"r2", "r3", "r4", "r5"}
    theft = {"category": {"theft,fraud": True}}
    assert beaver(source, answers="safe", where=theft) == {"r2"}
    # p0 has an unsafe answer, in a record that is not taken.
    neither = {"category": {"insult": False, "theft,fraud": False}}
    assert beaver(source, answers="related", where=neither) == {"r3", "r4", "r5"}
    found = JsonlDataModule(source, where={"is_safe": False}, fractions=(1, 0, 0))
    assert [e.response for e in found.examples("train")] == ["r1"]
    for where, message in (
        ({"category": True}, r"holds a mapping of 'insult', 'theft,fraud'.*category=\{KEY: True"),
        ({"category": {"insults": True}}, "has no 'insults'; present are 'insult', 'theft,fraud'"),
        ({"category": {"insult": None}}, r"where\.category\.insult=None: no record"),
    ):
        with pytest.raises(ConfigError, match=message):
            beaver(source, where=where)


def test_columns_of_neither_kind_name_the_way(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "own.jsonl", [{"prompt": "a", "response": "b", "safe": True}])
    with pytest.raises(ConfigError, match=r"BeaverTails.*JsonlDataModule.*where=\{is_safe: false"):
        PKUDataModule(source).check()


def test_truthfulqa_and_jigsaw(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{n}", "best_answer": f"a{n}", "category": "xy"[n % 2]} for n in range(6)
    ]
    source = jsonl(tmp_path / "q.jsonl", rows)
    data = TruthfulQADataModule(source, where={"category": "y"}, fractions=(1, 0, 0))
    assert {e.response for e in data.examples("train")} == {"a1", "a3", "a5"}
    comments = [{"comment_text": f"c{n}", "toxic": n % 2, "lang": "de en"[3 * (n > 3) :][:2]}
                for n in range(8)]  # fmt: skip
    judged = JigsawDataModule(
        jsonl(tmp_path / "c.jsonl", comments), labels=("toxic",), where={"lang": "en"}
    )
    assert judged.read() == [(f"c{n}", (float(n % 2),)) for n in range(4, 8)]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_corpus(tmp_path: Path, streaming: bool) -> None:
    text = "One two three four. Five six seven eight. "
    rows = [{"text": f"{lang} {text}", "lang": lang} for lang in ("en", "de", "en")]
    source = jsonl(tmp_path / "c.jsonl", rows)

    def data(**options: Any) -> BookCorpusDataModule:
        return BookCorpusDataModule(
            source, streaming=streaming, fractions=(1, 0, 0), window_words=4, buffer_size=10,
            **options,
        )  # fmt: skip

    german = data(where={"lang": "de"})
    german.check()
    found = " ".join(german.texts())
    assert found.count("de One") == found.count("One") == 1
    assert len({data(where=w).fingerprint() for w in (None, {"lang": "de"}, {"lang": "en"})}) == 3
    assert data().fingerprint() == data(where={}).fingerprint()
    with pytest.raises(ConfigError, match=r"where\.lang='fr': no record.*'en' \(2\), 'de' \(1\)"):
        data(where={"lang": "fr"}).check()
    plain = tmp_path / "p.txt"
    plain.write_text(text)
    with pytest.raises(ConfigError, match="but lines of text have no columns"):
        BookCorpusDataModule(str(plain), where={"lang": "de"}).check()


def test_pages_of_a_book(tmp_path: Path) -> None:
    pages = [{"text": f"Page {n} of book {n % 2}.", "book": n % 2} for n in range(4)]
    book = LOTRDataModule(jsonl(tmp_path / "b.jsonl", pages), where={"book": 1})
    assert book.pages() == ["Page 1 of book 1.", "Page 3 of book 1."]
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"only a \.jsonl has columns"):
        LOTRDataModule(str(tmp_path / "b.txt"), where={"book": 1}).pages()
