from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest

from unlearning.data.mismatch import MismatchSampler
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.types import Example

# Example 3 repeats the answer of example 1.
RETAIN = [Example(f"p{n}", answer) for n, answer in enumerate("abcbdefgh")]


def test_a_draw_has_k_different_answers_of_the_training_split():
    sampler = MismatchSampler(RETAIN, per_prompt=5)
    for example in range(50):
        drawn = sampler.draw(example, epoch=0)
        assert len({RETAIN[number].response for number in drawn}) == len(drawn) == 5


def test_a_draw_is_a_function_of_seed_epoch_and_example():
    sampler = MismatchSampler(RETAIN, per_prompt=3, seed=4)
    sampler.draw(1, 1)  # what was drawn before does not matter
    assert sampler.draw(7, 2) == MismatchSampler(RETAIN, per_prompt=3, seed=4).draw(7, 2)
    draws = [sampler.draw(7, epoch) for epoch in range(10)]
    assert len({tuple(draw) for draw in draws}) > 5  # drawn anew every epoch
    assert draws != [sampler.draw(8, epoch) for epoch in range(10)]
    assert draws != [MismatchSampler(RETAIN, 3, seed=5).draw(7, epoch) for epoch in range(10)]


def test_every_answer_has_the_same_chance():
    sampler = MismatchSampler(RETAIN, per_prompt=2)
    counts = Counter(number for n in range(4000) for number in sampler.draw(n, 0))
    assert 3 not in counts and len(counts) == 8
    assert min(counts.values()) > 850 and max(counts.values()) < 1150  # 1000 each, sd 27


def test_a_mismatch_is_an_answer_not_a_character():
    """The released code samples from one joined string, and so single characters."""
    retain = [Example("p", "a whole answer"), Example("q", "another one")]
    sampler = MismatchSampler(retain, per_prompt=2)
    assert {retain[n].response for n in sampler.draw(0, 0)} == {"a whole answer", "another one"}


def test_too_small_a_retain_set_is_refused():
    MismatchSampler(RETAIN, per_prompt=8)
    with pytest.raises(ConfigError, match=r"mismatch_per_prompt=9 .* has 8\. Use a larger"):
        MismatchSampler(RETAIN, per_prompt=9)


@pytest.mark.parametrize("size", [8, 30, 500])
@pytest.mark.parametrize("per_prompt", [0, 1, 5, 8])
def test_draws_are_those_from_a_list_of_numbers(size, per_prompt):
    retain = [Example(f"p{n}", f"answer {n * n % 97}") for n in range(size)]
    first: dict[str, int] = {}
    for number, example in enumerate(retain):
        first.setdefault(example.response, number)
    for given in (retain, store(retain)):
        sampler = MismatchSampler(given, per_prompt, seed=2)
        for example, epoch in product(range(20), range(2)):
            generator = random.Random(f"mismatch/2/{epoch}/{example}")
            drawn = sampler.draw(example, epoch)
            assert drawn == generator.sample(list(first.values()), per_prompt)
            assert all(type(number) is int for number in drawn)


def test_answers_differ_as_they_are_written():
    retain = [Example("p", "a"), Example("q", "A"), Example("r", "a "), Example("s", "\ud83d")]
    MismatchSampler(retain, per_prompt=4)
