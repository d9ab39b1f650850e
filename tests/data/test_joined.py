"""Data sets joined split by split."""

from __future__ import annotations

import json

import pytest

from unlearning.data.bookcorpus import BookCorpusDataModule
from unlearning.data.joined import JoinedDataModule
from unlearning.data.jsonl import JsonlDataModule
from unlearning.data.prompts import PromptsDataModule
from unlearning.data.split import SPLITS
from unlearning.errors import ConfigError


@pytest.fixture
def numbered(tmp_path):
    def build(name: str, first: int, last: int, **settings) -> JsonlDataModule:
        rows = ({"prompt": f"{name} {n}?", "response": f"{n}."} for n in range(first, last))
        path = tmp_path / f"{name}-{first}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return JsonlDataModule(str(path), **settings)

    return build


def test_each_keeps_its_own_splits(numbered):
    halves = numbered("half", 0, 10, fractions=(0.5, 0.2, 0.3))
    training = numbered("all", 0, 30, fractions=(1.0, 0.0, 0.0), train_prompts=8)
    joined = JoinedDataModule([halves, training])
    for split in SPLITS:
        expected = [*halves.examples(split), *training.examples(split)]
        assert list(joined.examples(split)) == expected
    assert [len(joined.examples(split)) for split in SPLITS] == [5 + 8, 2, 3]
    assert joined.fingerprint() != JoinedDataModule([training, halves]).fingerprint()


def test_what_stands_in_two_of_them_is_there_once(numbered):
    whole = {"fractions": (1.0, 0.0, 0.0)}
    joined = JoinedDataModule([numbered("n", 0, 6, **whole), numbered("n", 4, 9, **whole)])
    assert sorted(e.prompt for e in joined.examples("train")) == [f"n {n}?" for n in range(9)]


def test_no_text_is_trained_on_in_one_and_held_out_in_another(numbered):
    first = numbered("n", 0, 10, fractions=(0.5, 0.0, 0.5))
    second = numbered("n", 1, 10, fractions=(1.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="test examples are also in the training set"):
        JoinedDataModule([first, second]).setup()


def test_prompts_alone_make_it_one_without_answers(numbered, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "Who?"}', encoding="utf-8")
    prompts = PromptsDataModule(str(tmp_path / "p.jsonl"))
    assert not JoinedDataModule([numbered("n", 0, 5), prompts]).has_answers
    assert JoinedDataModule([numbered("n", 0, 5)]).has_answers


def test_streams_and_nothing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="sets is empty"):
        JoinedDataModule([])
    with pytest.raises(ConfigError, match="streaming=false"):
        JoinedDataModule([BookCorpusDataModule(str(tmp_path), streaming=True)])


def test_a_hub_source_is_told(numbered):
    hub = JsonlDataModule("somebody/questions")
    assert JoinedDataModule([numbered("n", 0, 5), hub]).source == "somebody/questions"
    assert JoinedDataModule([numbered("n", 0, 5)]).source == ""
