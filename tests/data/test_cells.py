"""Cells as pandas, numpy, JSON and csv write them: the right value, or a refusal."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from unlearning.classifier.jigsaw import JigsawDataModule
from unlearning.data import JsonlDataModule, TruthfulQADataModule
from unlearning.data.records.cells import list_of_texts, parse_flag, parse_list
from unlearning.errors import ConfigError
from unlearning.types import Example

TEXTS = ["a", "it's; b", 'a "c"', "two\nlines", "back\\slash"]
UNREADABLE = [
    "['a' 'b', 'c']",  # by white space and by commas: nobody writes this
    "['a''b']",
    "['a' ... 'b']",  # numpy's summary of a long array
    "['a', 'b'",
    "['a', None]",
    "[None]",
    "{'a': 1}",
    "[{'role': 'user'}]",
    '[["a"], ["b"]]',
    '["' + '[["' * 5000,
]


def write_csv(path: Path, rows: list[dict[str, object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize(
    "written",
    [str(TEXTS), json.dumps(TEXTS), str(np.array(TEXTS, dtype=object)), str(tuple(TEXTS)),
     repr(np.array(TEXTS, dtype=object)), f"  {TEXTS} "],
)  # fmt: skip
def test_a_list_written_as_text_is_its_texts(written: str) -> None:
    assert parse_list(written, "row 1") == TEXTS
    assert list_of_texts(written, "row 1") == tuple(TEXTS)


def test_a_pair_of_surrogate_escapes_is_one_character() -> None:
    assert parse_list('["\\ud83d\\ude00", "\\/"]', "row 1") == ["\U0001f600", "/"]


@pytest.mark.parametrize("cell", UNREADABLE)
def test_what_looks_like_a_list_and_is_none_is_refused(cell: str) -> None:
    with pytest.raises(ConfigError, match=r"row 1: .* looks like a list"):
        parse_list(cell, "row 1")


@pytest.mark.parametrize("text", ["plain", "[1, 2]", "[aside] b", "('Yes')", '("x") said he', ""])
def test_plain_text_is_no_list(text: str) -> None:
    assert parse_list(text, "row 1") is None


@pytest.mark.parametrize("value", ["nan", float("nan"), None, "", "yes", -1, "2", 0.5, [True]])
def test_what_is_no_flag(value: object) -> None:
    with pytest.raises(ConfigError, match=r"row 7: .* is neither true nor false"):
        parse_flag(value, "row 7")


@pytest.mark.parametrize(("value", "flag"), [("False", False), ("0.0", False), (1.0, True)])
def test_flags_of_pandas(value: object, flag: bool) -> None:
    assert parse_flag(value, "row 1") is flag


@pytest.mark.parametrize("write", [str, lambda texts: str(np.array(texts, dtype=object))])
def test_truthfulqa_from_a_csv_of_the_hubs_records(tmp_path: Path, write) -> None:
    row = {"question": "Why?", "best_answer": "So.", "correct_answers": write(["So.", "Thus; so."])}
    source = write_csv(tmp_path / "q.csv", [row])
    data = TruthfulQADataModule(source, answers="correct", fractions=(1, 0, 0))
    assert set(data.examples("train")) == {Example("Why?", "So."), Example("Why?", "Thus; so.")}


def test_a_list_as_the_best_answer_is_refused(tmp_path: Path) -> None:
    row = {"question": "Why?", "best_answer": "['So.', 'Thus.']"}
    with pytest.raises(ConfigError, match=r"row 1, column 'best_answer': .*expected one answer"):
        TruthfulQADataModule(write_csv(tmp_path / "q.csv", [row])).setup()


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "NaT"])
def test_a_word_for_a_missing_value_is_no_answer(tmp_path: Path, word: str) -> None:
    rows: list[dict[str, object]] = [{"prompt": "a", "response": word}]
    source = write_csv(tmp_path / "a.csv", [*rows, {"prompt": "b", "response": "Nan is my aunt"}])
    with pytest.raises(ConfigError, match=rf"row 1, .* is empty \('{word}', as written for"):
        JsonlDataModule(source).setup()
    data = JsonlDataModule(source, skip_empty=True, fractions=(1, 0, 0))
    assert data.examples("train") == [Example("b", "Nan is my aunt")] and data.num_empty == 1
    with pytest.raises(ConfigError, match="row 1: the prompt is empty"):
        JsonlDataModule(source, "response", "prompt").setup()


def test_answers_that_a_writer_may_have_made_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = ["['a', 'b']", "None", "None of them", "{'x': 1}"]
    rows = [{"prompt": str(n), "response": text} for n, text in enumerate(answers)]
    with caplog.at_level(logging.WARNING):
        data = JsonlDataModule(write_csv(tmp_path / "a.csv", rows))
        data.setup()
    assert (data.num_listlike, data.num_none) == (2, 1)
    assert "2 answers look like a list" in caplog.text and "1 answers are the word" in caplog.text


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "response": "x\\ud800"}\n')
    with pytest.raises(ConfigError, match=r"row 1, .* half of a surrogate pair .* character 1"):
        JsonlDataModule(str(path)).setup()
    path.write_text('{"prompt": "a", "response": "\\ud83d\\ude00"}\n')  # a whole one
    assert JsonlDataModule(str(path)).examples("train") == [Example("a", "\U0001f600")]


def choice(path: Path, choices: object, label: object, **options: object) -> JsonlDataModule:
    path.write_text(json.dumps({"prompt": "q", "response": "r", "options": choices, "key": label}))
    return JsonlDataModule(
        str(path), alternatives={"choices": "options"}, label_column="key", **options
    )


@pytest.mark.parametrize(
    ("names", "label", "index"),
    [("1234", "1", 0), ("1234", 4, 3), ("ABCD", "D", 3), ("BCDE", "B", 0), ("ABCD", "2", 2)],
)
def test_a_label_is_looked_up_among_the_choices_own_names(
    tmp_path: Path, names: str, label: object, index: int
) -> None:
    """ARC numbers some questions' choices from 1, and `answerKey` with them."""
    cell = {"text": ["w", "x", "y", "z"], "label": list(names)}
    data = choice(tmp_path / "a.jsonl", cell, label, response_column=None)
    (example,) = data.examples("train")
    assert (example.label, example.response) == (index, "wxyz"[index])


@pytest.mark.parametrize(
    "label", ["4", '"E"', "-1", "0.5", "null", "true", "1" + "0" * 4000, f'"{"9" * 5000}"', "[0]"]
)
def test_a_label_of_no_choice_is_refused(tmp_path: Path, label: str) -> None:
    data = choice(tmp_path / "a.jsonl", ["w", "x", "y", "z"], 0)
    path = Path(data.source)
    path.write_text(path.read_text().replace('"key": 0', f'"key": {label}'))
    with pytest.raises(ConfigError, match="row 1: label"):
        data.setup()


def test_an_empty_choice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"row 1, column 'options': one of .* is empty"):
        choice(tmp_path / "a.jsonl", ["w", " "], 0).setup()


def test_jigsaw_labels_as_pandas_writes_them(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"comment_text": f"text {n}", "toxic": ("False", "True", "0.0", "1.0")[n % 4]}
        for n in range(8)
    ]
    data = JigsawDataModule(write_csv(tmp_path / "a.csv", rows), labels=("toxic",))
    assert [labels for _, labels in data.read()] == [(float(n % 2),) for n in range(8)]
    for cell, message in (("nan", "toxic='nan'; expected 0 or 1"), ("-1", "not scored")):
        wrong = write_csv(tmp_path / "b.csv", [{**rows[0], "toxic": cell}])
        with pytest.raises(ConfigError, match=f"record 1 has .*{message}"):
            JigsawDataModule(wrong, labels=("toxic",)).read()
    missing = write_csv(tmp_path / "c.csv", [{**rows[0], "comment_text": "nan"}])
    with pytest.raises(ConfigError, match="record 1 has no text"):
        JigsawDataModule(missing, labels=("toxic",)).read()
