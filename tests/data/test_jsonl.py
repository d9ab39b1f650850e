from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearning.data import JsonlDataModule
from unlearning.errors import ConfigError
from unlearning.types import Example

TOFU = Path(__file__).resolve().parents[2] / "../shared/data/tofu/forget10.json"


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    source = write(tmp_path / "own.jsonl", [{"q": " Why? ", "a": "So.", "prompt": "unused"}])
    data = JsonlDataModule(source, prompt_column="q", response_column="a", fractions=(1, 0, 0))
    data.check()
    assert data.examples("train") == [Example("Why?", "So.")]


def test_csv_is_taken_too(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("prompt,response\nWhy?,So.\n", encoding="utf-8-sig")
    assert JsonlDataModule(str(path)).examples("train") == [Example("Why?", "So.")]


def test_check_finds_a_missing_column_and_file(tmp_path: Path) -> None:
    source = write(tmp_path / "own.jsonl", [{"prompt": "a", "responce": "b"}])
    with pytest.raises(ConfigError, match=r"'response' is missing.*mean 'responce'"):
        JsonlDataModule(source).check()
    with pytest.raises(ConfigError, match="No file or folder"):
        JsonlDataModule(str(tmp_path / "absent.jsonl")).check()


def test_empty_answer_names_file_row_and_column(tmp_path: Path) -> None:
    source = write(
        tmp_path / "own.jsonl",
        [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": None}],
    )
    with pytest.raises(ConfigError, match=r"own\.jsonl, row 2, column 'response'"):
        JsonlDataModule(source).setup()
    assert JsonlDataModule(source, skip_empty=True).examples("train") == [Example("a", "b")]


@pytest.mark.skipif(not TOFU.exists(), reason="needs the sample of TOFU")
def test_real_tofu() -> None:
    data = JsonlDataModule(str(TOFU), prompt_column="question", response_column="answer")
    data.check()
    assert [len(data.examples(name)) for name in ("train", "validation", "test")] == [280, 40, 80]


def test_columns_of_alternatives(tmp_path: Path) -> None:
    """As TOFU has them, and as multiple choice has them on the hub."""
    rows: list[dict[str, object]] = [
        {"q": "Who?", "a": "She.", "p": "It was she.", "w": ["He. ", "They."]},
    ]
    data = JsonlDataModule(
        write(tmp_path / "own.jsonl", rows), prompt_column="q", response_column="a",
        alternatives={"paraphrased": "p", "perturbed": "w"}, fractions=(1, 0, 0),
    )  # fmt: skip
    data.check()
    expected = {"paraphrased": ["It was she."], "perturbed": ["He.", "They."]}
    assert data.examples("train") == [Example("Who?", "She.", expected)]


@pytest.mark.parametrize("label", [1, "1", "B", "b"])
def test_the_right_choice_is_the_response(label: object, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "Who?", "c": {"text": ["He.", "She."], "label": ["A", "B"]}, "l": label}
    ]
    data = JsonlDataModule(
        write(tmp_path / "own.jsonl", rows), response_column=None, alternatives={"choices": "c"},
        label_column="l", fractions=(1, 0, 0),
    )  # fmt: skip
    assert data.examples("train") == [Example("Who?", "She.", {"choices": ["He.", "She."]}, 1)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"c": ["a"], "l": 1}, "label 1 names none of 1 choices"),
        ({"c": ["a"], "l": "no"}, "label 'no' is neither a number"),
        ({"c": [1], "l": 0}, r"column 'c': \[1\] is no list of texts"),
        ({"c": [], "l": 0}, r"\[\] is no list of texts"),
    ],
)
def test_bad_choices_are_refused(row: dict[str, object], said: str, tmp_path: Path) -> None:
    data = JsonlDataModule(
        write(tmp_path / "own.jsonl", [{"prompt": "Who?", **row}]), response_column=None,
        alternatives={"choices": "c"}, label_column="l",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=said):
        data.setup()
    with pytest.raises(ConfigError, match="needs label_column and a column of choices"):
        JsonlDataModule("x.jsonl", response_column=None)


@pytest.mark.parametrize("columns", [{"response_column": "prompt"}, {"dialogue_column": "prompt"}])
def test_prompt_and_answer_are_not_one_column(columns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="both read from the column 'prompt'"):
        JsonlDataModule("x.jsonl", **columns)
