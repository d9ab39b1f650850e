"""Dialogues: what was said before the last user turn is part of what an Example asks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unlearning.data.alternates import Alternates
from unlearning.data.overlap import check_disjoint, drop_duplicates
from unlearning.data.records.source import fingerprint
from unlearning.data.split import SPLITS, split_by_prompt
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.types import Example, TokenizedExample

FIRST = [("user", "Is 7 prime?"), ("assistant", "Yes.")]
OTHER = [("user", "Is 8 prime?"), ("assistant", "No.")]
PLAIN = Example("Why?", "Because.")
SEVEN, EIGHT = replace(PLAIN, turns=FIRST), replace(PLAIN, turns=OTHER)


def test_turns_are_kept_as_pairs_and_make_another_example():
    assert SEVEN.turns == (("user", "Is 7 prime?"), ("assistant", "Yes."))
    assert len({PLAIN, SEVEN, EIGHT, replace(PLAIN, turns=tuple(FIRST))}) == 3
    assert PLAIN.conversation == "Why?"
    assert SEVEN.conversation == "user: Is 7 prime?\nassistant: Yes.\nuser: Why?"


def test_an_unknown_role_is_refused_with_its_name():
    with pytest.raises(ConfigError, match="'gpt'; expected system, user, assistant"):
        Example("Why?", "Because.", turns=[("gpt", "Hello.")])


def test_stored_dialogues_come_back_among_plain_examples():
    mixed = [PLAIN, SEVEN, replace(EIGHT, alternatives={"choices": ["a", "b"]}, label=1), PLAIN]
    stored = store(mixed)
    assert list(stored) == mixed and stored[1].turns == SEVEN.turns
    assert fingerprint(stored) == fingerprint(mixed)
    assert len({fingerprint([one]) for one in (PLAIN, SEVEN, EIGHT)}) == 3


def test_the_same_last_turn_of_two_dialogues_is_two_prompts():
    assert drop_duplicates([SEVEN, EIGHT, replace(SEVEN)]) == [SEVEN, EIGHT]
    check_disjoint([SEVEN], [EIGHT, PLAIN])
    with pytest.raises(ConfigError, match="1 forget examples are also in the retain set"):
        check_disjoint([SEVEN], [EIGHT, replace(SEVEN, response="Another answer.")])
    asked = [replace(PLAIN, turns=[("user", f"{n}?"), ("assistant", "x")]) for n in range(10)]
    splits = split_by_prompt(asked, (0.5, 0.0, 0.5), seed=0)
    assert [len(splits[name]) for name in SPLITS] == [5, 0, 5]


def test_alternates_are_found_by_the_whole_dialogue():
    tokens = {"Odd.": 1, "Even.": 2}
    others = [replace(EIGHT, response="Even."), replace(SEVEN, response="Odd.")]

    def tokenize(examples):
        return [TokenizedExample((0,), (tokens[example.response],)) for example in examples]

    drawn = Alternates(others, [SEVEN, EIGHT], tokenize)
    assert [drawn.draw(n, 0)[0][1].response_ids for n in (0, 1)] == [(1,), (2,)]
