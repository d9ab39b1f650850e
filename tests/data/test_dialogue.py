"""Dialogues in their usual forms: the last assistant turn is the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unlearning.data import JsonlDataModule
from unlearning.data.dialogue import Dialogue, parse_dialogue
from unlearning.errors import ConfigError
from unlearning.types import Example

SAID = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho"), ("user", "A?\n\nB?"),
        ("assistant", "C: d\n\ne")]  # fmt: skip
WHOLE = Dialogue(tuple(SAID[:3]), "A?\n\nB?", "C: d\n\ne")
SHARE = {"system": "system", "user": "human", "assistant": "gpt"}


def messages(said: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in said]


def hh(said: list[tuple[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[role]}: {text}" for role, text in said)


PARTS = [{"role": role, "content": [{"type": "text", "text": text[:2]},
          {"type": "text", "text": text[2:]}]} for role, text in SAID]  # fmt: skip


@pytest.mark.parametrize(
    "cell",
    [
        messages(SAID),
        messages([(role.upper(), f" {text}\n") for role, text in SAID]),
        [{"from": SHARE[role], "value": text} for role, text in SAID],
        PARTS,
        json.dumps(messages(SAID)),  # a csv's cell
        messages([*SAID, ("user", "and then?")]),  # what comes after the answer
        messages([*SAID[:3], ("user", "A?"), ("user", "B?"), *SAID[4:]]),  # two in a row
        [{**message, "tool_calls": None, "name": "x"} for message in messages(SAID)],
    ],
)
def test_forms_of_one_dialogue(cell: Any) -> None:
    assert parse_dialogue(cell, "unused", "row 1") == WHOLE


@pytest.mark.parametrize("said", [SAID[1:], SAID[3:]])
def test_hh_text(said: list[tuple[str, str]]) -> None:
    expected = Dialogue(tuple(said[:-2]), said[-2][1], said[-1][1])
    for text in (hh(said), hh(said).lstrip(), hh(said) + "\n\nHuman: more"):
        assert parse_dialogue(text, None, "row 1") == expected
    # "human:" within a line is no speaker
    assert parse_dialogue("\n\nHuman: a\nHuman: b\n\nAssistant: c, Assistant: d", None, "") == (
        Dialogue((), "a\nHuman: b", "c, Assistant: d")
    )


@pytest.mark.parametrize("answer", ["No.", [{"role": "assistant", "content": "No."}]])
@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("Why?", ()),
        (messages([*SAID[:3], ("user", "Why?")]), tuple(SAID[:3])),
        (hh([*SAID[1:3], ("user", "Why?"), ("assistant", "")]), tuple(SAID[1:3])),
    ],
)
def test_an_answer_alone_beside_its_prompt(prompt: Any, turns: Any, answer: Any) -> None:
    assert parse_dialogue(answer, prompt, "row 1") == Dialogue(turns, "Why?", "No.")


@pytest.mark.parametrize(
    ("cell", "prompt", "message"),
    [
        (messages([*SAID[:2], ("tool", "7")]), None, "message 3 has the role 'tool'"),
        (messages([("function", "7")]), None, "message 1 has the role 'function'.*roles are"),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}], "a", "tool_calls"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], None, "only parts of text"),
        ([{"role": "user", "content": ["a"]}], None, "only parts of text"),
        ([{"role": "user", "content": {"a": 1}}], None, "the content is .*, expected text"),
        ([{"role": "user", "content": "\ud800"}], None, "half of a surrogate pair"),
        ([{"speaker": "a"}], None, "message 1: {'speaker': 'a'} is no message"),
        (["a"], None, "message 1: 'a' is no message"),
        (7, None, "7 is neither a list of messages nor the text"),
        ("['a', {'role': 'user'}]", None, "written as text, and is not JSON"),
        ("an answer", None, "there is an answer alone.*prompt_column"),
        ("an answer", hh(SAID[1:3]), "its prompt ends with a assistant turn"),
        (messages([("system", "s"), ("assistant", "a")]), None, "stands a system turn, expected"),
        (messages([("assistant", "a"), ("user", "b")]), None, "stands nothing, expected a user"),
    ],
)
def test_what_is_refused_names_its_place(cell: Any, prompt: Any, message: str) -> None:
    with pytest.raises(ConfigError, match="row 3.*" + message.replace("{", r"\{")):
        parse_dialogue(cell, prompt, "row 3")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_records_of_hh_rlhf(tmp_path: Path) -> None:
    rows = [
        {"chosen": hh([*SAID[1:3], ("user", f"{n}?"), ("assistant", f"good {n}")]),
         "rejected": hh([*SAID[1:3], ("user", f"{n}?"), ("assistant", f"bad {n}")])}
        for n in range(4)
    ]  # fmt: skip
    source = write(tmp_path / "hh.jsonl", rows)
    for column, word in (("chosen", "good"), ("rejected", "bad")):
        data = JsonlDataModule(source, dialogue_column=column, fractions=(1, 0, 0))
        data.check()
        expected = {Example(f"{n}?", f"{word} {n}", turns=tuple(SAID[1:3])) for n in range(4)}
        assert set(data.examples("train")) == expected
    with pytest.raises(ConfigError, match=r"'prompt' is missing.*dialogue_column=rejected"):
        JsonlDataModule(source).check()


def test_the_same_question_after_other_turns_is_another_prompt(tmp_path: Path) -> None:
    rows = [{"messages": messages([("system", s), ("user", "A?"), ("assistant", "B")])}
            for s in ("one", "two", "one")]  # fmt: skip
    data = JsonlDataModule(
        write(tmp_path / "a.jsonl", rows), dialogue_column="messages", fractions=(1, 0, 0)
    )
    assert {e.turns for e in data.examples("train")} == {
        (("system", "one"),), (("system", "two"),)
    }  # fmt: skip
    assert data.num_duplicates == 1
    rows[1] = rows[0]
    other = JsonlDataModule(
        write(tmp_path / "b.jsonl", rows), dialogue_column="messages", fractions=(1, 0, 0)
    )
    assert data.fingerprint() != other.fingerprint()


def test_a_dialogue_without_an_answer_is_an_empty_answer(tmp_path: Path) -> None:
    rows = [{"messages": messages([("user", "A?"), ("assistant", text)])} for text in ("B", " ")]
    rows += [{"messages": messages([("user", "C?")])}, {"messages": messages(SAID)}]
    rows += [{"messages": messages([*SAID, ("user", "D?"), ("assistant", "")])}]
    source = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ConfigError, match="row 2, column 'messages': the answer is empty"):
        JsonlDataModule(source, dialogue_column="messages").setup()
    data = JsonlDataModule(source, dialogue_column="messages", skip_empty=True, fractions=(1, 0, 0))
    assert {e.response for e in data.examples("train")} == {"B", "C: d\n\ne"}
    assert data.num_empty == 3
