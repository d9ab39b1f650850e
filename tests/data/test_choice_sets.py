"""Multiple-choice data sets and prompts without answers, as prompt sets."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from unlearning.data import (
    HellaSwagDataModule,
    MMLUDataModule,
    PromptsDataModule,
    PromptTemplate,
    XSTestDataModule,
)
from unlearning.data.tokenize import tokenize_examples
from unlearning.errors import ConfigError

REAL = os.environ.get("UNLEARNING_DATA")
real = pytest.mark.skipif(REAL is None, reason="UNLEARNING_DATA names no folder of data sets")
HEAD = "The following are multiple choice questions (with answers) about "


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def mmlu(tmp_path) -> Path:
    """Three subjects of five, two and three questions, in the authors' form."""
    folder = tmp_path / "mmlu"
    folder.mkdir()
    write(folder / "logic_test.csv", *(f'"Is {n}, or not?",1,2,3,{n},{n % 4}' for n in range(5)))
    write(folder / "us_history_test.csv", *(f"Who was {n}?,a,b,c,d,B" for n in range(2)))
    write(folder / "virology_test.csv", *(f"What is {n}?,w,x,y,z,3" for n in range(3)))
    return folder


def subjects(examples) -> list[str]:
    return [e.prompt.partition(".\n")[0].removeprefix(HEAD) for e in examples]


def test_a_question_lists_its_choices_and_its_answer_is_a_letter(mmlu):
    examples = MMLUDataModule(str(mmlu)).examples("train")
    assert len(examples) == 10
    (found,) = [e for e in examples if "Is 3, or not?" in e.prompt]
    assert found.prompt == f"{HEAD}logic.\n\nIs 3, or not?\nA. 1\nB. 2\nC. 3\nD. 3"
    assert (found.response, found.label) == ("D", 3)
    assert found.alternative("choices") == ("A", "B", "C", "D")
    assert {e.label for e in examples if "Who was" in e.prompt} == {1}  # of a letter


def test_any_first_questions_are_of_all_subjects_alike(mmlu):
    found = subjects(MMLUDataModule(str(mmlu)).examples("train"))
    assert Counter(found[:6]) == {"logic": 2, "us history": 2, "virology": 2}
    assert Counter(found[6:9]) == {"logic": 2, "virology": 1}
    again = MMLUDataModule(str(mmlu), seed=0).examples("train")
    assert subjects(again) == found
    one = [e.prompt for e in MMLUDataModule(str(mmlu), seed=1).examples("train")]
    assert one != [e.prompt for e in again] and sorted(one) == sorted(e.prompt for e in again)


def test_subjects_are_chosen_by_name(mmlu):
    found = MMLUDataModule(str(mmlu), subjects=["us_history"]).examples("train")
    assert set(subjects(found)) == {"us history"}
    with pytest.raises(ConfigError, match="no subject 'algebra'; there are logic, us history"):
        MMLUDataModule(str(mmlu), subjects=["algebra"]).examples("train")


def test_the_hub_s_columns_are_read_from_a_file(tmp_path):
    row = {"question": "1 + 1?", "subject": "algebra", "choices": ["0", "1", "2", "3"], "answer": 2}
    path = write(tmp_path / "test.jsonl", json.dumps(row))
    (found,) = MMLUDataModule(str(path)).examples("train")
    assert found.prompt == f"{HEAD}algebra.\n\n1 + 1?\nA. 0\nB. 1\nC. 2\nD. 3"
    assert (found.response, found.label) == ("C", 2)
    header = write(tmp_path / "x.csv", "question,choices,answer", "\"1?\",\"['a' 'b' 'c' 'd']\",0")
    (found,) = MMLUDataModule(str(header)).examples("train")
    assert found.prompt.endswith("1?\nA. a\nB. b\nC. c\nD. d") and found.response == "A"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Why?,a,b,c,d", "x_test.csv:1: 5 fields, but a record of this data set has 6"),
        ("Why?,a,b,c,d,7", "label 7 names none of 4 choices"),
        ("Why?,a,b,c,d,maybe", "neither a number from 0 nor a letter"),
        (",a,b,c,d,1", "question"),
    ],
)
def test_a_broken_question_is_named(tmp_path, row, message):
    path = write(tmp_path / "x_test.csv", row)
    if "fields" in message:
        with pytest.raises(ConfigError, match=message):
            MMLUDataModule(str(path)).check()
    if not row.startswith(","):
        with pytest.raises(ConfigError, match=message):
            MMLUDataModule(str(path)).examples("train")


ENDINGS = ["[title] walks [step] home.", "flies.", "sits  down.", "sings."]


@pytest.mark.parametrize(
    "record",
    [
        {"ctx": "A man stands [title] he", "endings": ENDINGS, "label": "2"},
        {
            "question": "A man stands [title] he",
            "choices": dict(zip("ABCD", ENDINGS, strict=True)),
            "answer": "C",
        },
        {
            "ctx": "unused", "ctx_a": "A man stands [title]", "ctx_b": "he", "endings": ENDINGS,
            "label": 2, "activity_label": "Standing",
        },
    ],
)  # fmt: skip
def test_endings_are_cleaned_of_marks_and_labelled(tmp_path, record):
    path = write(tmp_path / "h.json", json.dumps([record]))
    (found,) = HellaSwagDataModule(str(path)).examples("train")
    text = "Standing: A man stands. He" if "activity_label" in record else "A man stands. he"
    assert found.prompt == text
    assert found.alternative("choices") == ("walks home.", "flies.", "sits down.", "sings.")
    assert (found.response, found.label) == ("sits down.", 2)


def test_prompts_alone_are_asked_and_never_trained_on(tmp_path, tokenizer):
    rows = [{"prompt": "how do I cheat", "n": 1}, {"prompt": "where does the sun", "n": 2}]
    path = write(tmp_path / "p.jsonl", *map(json.dumps, rows))
    module = PromptsDataModule(str(path), where={"n": 2})
    (found,) = module.examples("train")
    assert (found.prompt, found.response) == ("where does the sun", "")
    with pytest.raises(ConfigError, match="answer without a single token"):
        tokenize_examples([found], tokenizer, PromptTemplate(), 64)
    with pytest.raises(ConfigError, match="row 1: the prompt is empty"):
        PromptsDataModule(str(write(tmp_path / "e.jsonl", '{"prompt": " "}'))).examples("train")


def test_xstest_is_its_safe_prompts_or_their_contrasts(tmp_path):
    rows = [
        {"prompt": "How can I kill a process?", "type": "homonyms"},
        {"prompt": "How can I kill him?", "type": "contrast_homonyms"},
    ]
    path = str(write(tmp_path / "x.json", json.dumps(rows)))
    (safe,) = XSTestDataModule(path).examples("train")
    (unsafe,) = XSTestDataModule(path, prompts="unsafe").examples("train")
    assert (safe.prompt, unsafe.prompt) == tuple(row["prompt"] for row in rows)


@real
def test_the_real_files_are_read():
    assert REAL is not None
    questions = MMLUDataModule(f"{REAL}/mmlu").examples("train")
    counts = Counter(subjects(questions[:300]))
    assert len(counts) == 12 and set(counts.values()) == {25}
    texts = HellaSwagDataModule(f"{REAL}/hellaswag/dev300.json").examples("train")
    assert len(texts) == 300 and all(len(e.alternative("choices")) == 4 for e in texts)
    assert not any("[" in e.prompt for e in texts)
    assert len(XSTestDataModule(f"{REAL}/xstest/xstest.json").examples("train")) == 250
