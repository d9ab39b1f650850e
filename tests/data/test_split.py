from __future__ import annotations

import hashlib
import random

import pytest

from unlearning.data.overlap import normalise
from unlearning.data.split import SPLITS, checked_fractions, split_by_prompt
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.types import Example

EXAMPLES = [Example(f"Question {n}", f"answer {k}") for n in range(100) for k in range(1 + n % 3)]
FRACTIONS = (0.7, 0.1, 0.2)


def test_every_example_is_in_exactly_one_split() -> None:
    splits = split_by_prompt(EXAMPLES, FRACTIONS, seed=0)
    dealt = [example for name in SPLITS for example in splits[name]]
    assert sorted(map(str, dealt)) == sorted(map(str, EXAMPLES))


def test_sizes_count_prompts() -> None:
    splits = split_by_prompt(EXAMPLES, FRACTIONS, seed=0)
    assert [len({e.prompt for e in splits[name]}) for name in SPLITS] == [70, 10, 20]


def test_no_prompt_is_on_two_sides_whatever_its_case_and_spaces() -> None:
    spellings = [Example(f"  question {n} ".upper(), "shouted") for n in range(100)]
    splits = split_by_prompt(EXAMPLES + spellings, FRACTIONS, seed=3)
    sides = [{normalise(example.prompt) for example in splits[name]} for name in SPLITS]
    assert [len(side) for side in sides] == [70, 10, 20]
    assert len(set().union(*sides)) == 100


def test_split_depends_on_the_seed_and_not_on_the_order_of_records() -> None:
    shuffled = list(EXAMPLES)
    random.Random(1).shuffle(shuffled)
    assert split_by_prompt(EXAMPLES, FRACTIONS, 0) == split_by_prompt(shuffled, FRACTIONS, 0)
    assert split_by_prompt(EXAMPLES, FRACTIONS, 0) != split_by_prompt(EXAMPLES, FRACTIONS, 1)


@pytest.mark.parametrize("size", range(1, 60))
def test_a_share_of_zero_gets_nothing(size: int) -> None:
    examples = [Example(str(n), "a") for n in range(size)]
    assert split_by_prompt(examples, (0.7, 0.3, 0.0), 0)["test"] == []
    assert split_by_prompt(examples, (0.7, 0.0, 0.3), 0)["validation"] == []
    assert len(split_by_prompt(examples, (1.0, 0.0, 0.0), 0)["train"]) == size


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.1), (0.7, 0.3), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5), (), (7, 1, 2)]
)
def test_what_is_no_shares_of_one_is_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="expected three shares"):
        checked_fractions(fractions)


def test_shares_may_be_integers_or_a_list() -> None:
    assert checked_fractions([1, 0, 0]) == (1.0, 0.0, 0.0)


def naive_split(examples: list[Example], fractions, seed: int) -> list[list[Example]]:
    """By whole hashes as text, with dicts and lists."""

    def rank(text: str) -> str:
        return hashlib.sha256(f"{seed}\n{normalise(text)}".encode()).hexdigest()

    by_prompt: dict[str, list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(rank(example.prompt), []).append(example)
    dealt = [sorted(by_prompt[key], key=lambda e: rank(e.response)) for key in sorted(by_prompt)]
    first = round(fractions[0] * len(dealt))
    second = round((fractions[0] + fractions[1]) * len(dealt))
    parts = (dealt[:first], dealt[first:second], dealt[second:])
    return [[example for answers in part for example in answers] for part in parts]


@pytest.mark.parametrize("fractions", [FRACTIONS, (1.0, 0.0, 0.0), (0.5, 0.0, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_the_split_is_that_of_whole_hashes(fractions: tuple[float, float, float], seed: int):
    spellings = [Example(f" QUESTION  {n}", f"Answer {n % 3}") for n in range(100)]
    examples = [*EXAMPLES, *spellings, *EXAMPLES[:50]]  # the same twice: order of the source
    random.Random(seed).shuffle(examples)
    expected = naive_split(examples, fractions, seed)
    for given in (examples, store(examples)):
        found = split_by_prompt(given, fractions, seed)
        assert [list(found[name]) for name in SPLITS] == expected


def test_nothing_is_dealt_out_of_nothing() -> None:
    for given in ([], store([])):
        assert [len(part) for part in split_by_prompt(given, FRACTIONS, 0).values()] == [0, 0, 0]
