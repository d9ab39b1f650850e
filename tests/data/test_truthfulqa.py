from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from unlearning.data import TruthfulQADataModule
from unlearning.data.truthfulqa import CSV_COLUMNS, split_answers
from unlearning.errors import ConfigError
from unlearning.types import Example

REAL = Path(__file__).resolve().parents[2] / "../shared/data/truthfulqa/TruthfulQA.csv"
SPLITS = ("train", "validation", "test")
QUESTION = "Is the Earth flat?"
BEST = ["No, it is round"]
CORRECT = ["No, it is round", "It is a globe, nearly"]
INCORRECT = ["Yes", "It rests on turtles"]


@pytest.fixture(params=["csv", "jsonl"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same question in the authors' form and in the hub's."""
    path = tmp_path / f"questions.{request.param}"
    if request.param == "csv":
        header = ["Type", "Category", *CSV_COLUMNS.values(), "Source"]
        # The second cell ends with a separator, as some of the real ones do.
        cells = [BEST[0], "; ".join(CORRECT), "; ".join(INCORRECT) + ";"]
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([header, ["t", "c", QUESTION, *cells, "s"]])
    else:
        record = {
            "type": "t",
            "question": QUESTION,
            "best_answer": BEST[0],
            "correct_answers": CORRECT,
            "incorrect_answers": INCORRECT,
        }
        path.write_text(json.dumps(record))
    return str(path)


@pytest.mark.parametrize(
    ("answers", "expected"), [("best", BEST), ("correct", CORRECT), ("incorrect", INCORRECT)]
)
def test_answers_of_both_forms(source: str, answers: str, expected: list[str]) -> None:
    data = TruthfulQADataModule(source, answers=answers, fractions=(1, 0, 0))
    data.check()
    found = data.examples("train")
    assert len(found) == len(expected)
    assert set(found) == {Example(QUESTION, answer) for answer in expected}


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("a; b;c", ["a", "b", "c"]),
        ("a; ", ["a"]),
        ("", []),
        (None, []),
        (["a; b"], ["a; b"]),
        ([], []),
    ],
)
def test_cells(cell: object, answers: list[str]) -> None:
    assert split_answers(cell, "row 1") == answers


def test_question_without_an_answer_is_an_empty_answer(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [{"question": "a?", "correct_answers": ["a"]}, {"question": "b?", "correct_answers": []}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match="row 2, column 'correct_answers': the answer is empty"):
        TruthfulQADataModule(str(path), answers="correct").setup()
    data = TruthfulQADataModule(str(path), answers="correct", skip_empty=True)
    assert data.examples("train") == [Example("a?", "a")]
    assert data.num_empty == 1


def test_missing_columns_and_unknown_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_text("Question,Best answer\na?,b\n")
    with pytest.raises(ConfigError, match=r"'Best Answer' is missing.*mean 'Best answer'"):
        TruthfulQADataModule(str(path)).check()
    path.write_text("Frage,Antwort\na?,b\n")
    with pytest.raises(ConfigError, match="'question' is missing; present are 'Frage'"):
        TruthfulQADataModule(str(path)).setup()
    with pytest.raises(ConfigError, match="answers='true': expected one of best"):
        TruthfulQADataModule(answers="true")  # type: ignore[arg-type]


def test_default_is_the_hub_and_its_check_needs_no_network() -> None:
    TruthfulQADataModule().check()


@pytest.mark.skipif(not REAL.exists(), reason="needs TruthfulQA.csv")
@pytest.mark.parametrize(
    ("answers", "total", "duplicates"),
    [("best", 817, 0), ("correct", 2837, 2), ("incorrect", 3369, 1)],
)
def test_real_file(answers: str, total: int, duplicates: int) -> None:
    data = TruthfulQADataModule(str(REAL), answers=answers)
    data.check()
    # 0.7/0.1/0.2 of 817 questions: 571.9 and 653.6 rounded are the cuts.
    prompts = [{e.prompt for e in data.examples(name)} for name in SPLITS]
    assert [len(side) for side in prompts] == [572, 82, 163]
    assert len(set().union(*prompts)) == 817
    assert sum(len(data.examples(name)) for name in SPLITS) == total
    assert data.num_duplicates == duplicates
