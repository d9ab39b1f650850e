from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from unlearning.data import PKUDataModule
from unlearning.data.overlap import normalise
from unlearning.data.pku import COLUMNS
from unlearning.data.records.cells import parse_flag
from unlearning.errors import ConfigError
from unlearning.types import Example

REAL = Path(__file__).resolve().parents[2] / "../shared/data/pku_saferlhf/pairs.jsonl"
SPLITS = ("train", "validation", "test")

ROWS = [
    dict(zip(COLUMNS, values, strict=True))
    for values in [
        ("mixed", "mixed bad", "mixed good", False, True),
        ("both bad", "bad one", "bad two", False, False),
        ("both good", "good one", "good two", True, True),
        ("sometimes", "sometimes good", "sometimes fine", True, True),
        ("Sometimes ", "sometimes good", "sometimes bad", True, False),
    ]
]
UNSAFE = {"mixed bad", "bad one", "bad two", "sometimes bad"}
SAFE = {"mixed good", "good one", "good two", "sometimes good", "sometimes fine"}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def responses(source: str, answers: str) -> set[str]:
    data = PKUDataModule(source, answers=answers, fractions=(1, 0, 0))
    data.check()
    return {example.response for example in data.examples("train")}


def test_each_unsafe_answer_is_one_example(source: str) -> None:
    assert responses(source, "unsafe") == UNSAFE


def test_safe_answers(source: str) -> None:
    assert responses(source, "safe") == SAFE


def test_related_prompts_have_no_unsafe_answer_in_any_row(source: str) -> None:
    assert responses(source, "related") == {"good one", "good two"}


def test_mixed_takes_the_pairs_that_have_a_safe_and_an_unsafe_answer(source: str) -> None:
    found = {}
    for answers in ("unsafe", "safe"):
        data = PKUDataModule(source, answers=answers, mixed=True, fractions=(1, 0, 0))
        found[answers] = {(e.prompt, e.response) for e in data.examples("train")}
    assert found["unsafe"] == {("mixed", "mixed bad"), ("Sometimes", "sometimes bad")}
    assert found["safe"] == {("mixed", "mixed good"), ("Sometimes", "sometimes good")}
    with pytest.raises(ConfigError, match=r"no related answer .* a safe and an unsafe one"):
        PKUDataModule(source, answers="related", mixed=True).setup()


def test_answers_stay_with_their_prompt(source: str) -> None:
    examples = PKUDataModule(source, fractions=(1, 0, 0)).examples("train")
    assert Example("mixed", "mixed bad") in examples
    assert {e.response for e in examples if e.prompt == "both bad"} == {"bad one", "bad two"}


@pytest.mark.parametrize(("true", "false"), [("True", "False"), ("true", "false"), ("1", "0")])
def test_flags_of_a_csv_are_parsed(tmp_path: Path, true: str, false: str) -> None:
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in ROWS:
            writer.writerow({k: {True: true, False: false}.get(v, v) for k, v in row.items()})
    assert responses(str(path), "unsafe") == UNSAFE


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), (1, True), (0, False)]
)
def test_flags_of_json(value: object, expected: bool) -> None:
    assert parse_flag(value, "row 1") is expected


@pytest.mark.parametrize("value", ["yes", "", None, 2, 0.5, "nan"])
def test_other_flags_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"row 7.*is neither true nor false"):
        parse_flag(value, "row 7")


def test_bad_flag_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1] | {COLUMNS[4]: "safe"}))
    with pytest.raises(ConfigError, match=r"pairs\.jsonl, row 2, column 'is_response_1_safe'"):
        PKUDataModule(str(path)).setup()


def test_forget_set_without_unsafe_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(ROWS[2]))
    with pytest.raises(ConfigError, match="no unsafe answer among its 1 rows"):
        PKUDataModule(str(path)).setup()


def test_unknown_kind_and_missing_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="answers='bad': expected one of unsafe, safe, related"):
        PKUDataModule(answers="bad")  # type: ignore[arg-type]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "response_0": "a", "response_1": "b"}))
    with pytest.raises(ConfigError, match="'is_response_0_safe' is missing"):
        PKUDataModule(str(path)).check()


def test_default_is_the_hub_and_its_check_needs_no_network() -> None:
    PKUDataModule().check()


@pytest.mark.skipif(not REAL.exists(), reason="needs the sample of PKU-SafeRLHF")
def test_real_pairs() -> None:
    sides, totals = [], []
    for answers in ("unsafe", "safe"):
        data = PKUDataModule(str(REAL), answers=answers)
        prompts = [{normalise(e.prompt) for e in data.examples(name)} for name in SPLITS]
        assert [len(side) for side in prompts] == [413, 59, 118]
        assert len(set().union(*prompts)) == 590
        sides.append(prompts)
        totals.append((sum(len(data.examples(name)) for name in SPLITS), data.num_duplicates))
    assert totals == [(1359, 397), (1378, 378)]
    assert sides[0] == sides[1]  # safe and unsafe answers to a prompt are in the same split
    with pytest.raises(ConfigError, match="no related answer among its 1756 rows"):
        PKUDataModule(str(REAL), answers="related").setup()
