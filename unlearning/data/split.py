"""Splits examples into train, validation and test by prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from unlearning.data.digests import digests
from unlearning.data.overlap import normalise
from unlearning.data.stored_examples import take
from unlearning.errors import ConfigError
from unlearning.types import Example

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def split_by_prompt(
    examples: Sequence[Example], fractions: tuple[float, float, float], seed: int
) -> dict[Split, Sequence[Example]]:
    """Splits examples so that all answers to one prompt are in one split.

    Prompts are ranked by a hash of (seed, normalised prompt) and cut at the rounded cumulative
    fractions. The split depends on the seed and the texts alone, never on the order of records,
    and the first n examples of a split are a random sample rather than the head of a file. Answers
    to one prompt are in the order of their own hashes.

    Returns:
        Of `StoredExamples` views of them, of any other sequence lists.

    Examples:
        >>> from unlearning import Example
        >>> examples = [Example(f"What is {n} plus 1?", str(n + 1)) for n in range(10)]
        >>> splits = split_by_prompt(examples, (0.7, 0.1, 0.2), seed=0)
        >>> [len(splits[name]) for name in ("train", "validation", "test")]
        [7, 1, 2]
    """
    texts = (normalise(text) for e in examples for text in (e.conversation, e.response))
    ranked = (f"{seed}\n{text}" for text in texts)
    ranks = digests(ranked, 2 * len(examples)).reshape(-1, 2)
    order = np.lexsort((ranks[:, 1], ranks[:, 0]))  # by prompt, then by response; stable
    prompts = ranks[order, 0]
    begins = np.flatnonzero(np.append(True, prompts[1:] != prompts[:-1])[: len(prompts)])
    first = round(fractions[0] * len(begins))
    second = round((fractions[0] + fractions[1]) * len(begins))
    parts = np.split(order, np.append(begins, len(order))[[first, second]])
    return {name: take(examples, part) for name, part in zip(SPLITS, parts, strict=True)}


def first_answers(
    examples: Sequence[Example], prompts: int | None, answers: int | None = None
) -> Sequence[Example]:
    """Takes the first prompts of a split, and of each its first answers.

    Args:
        examples: all answers to a prompt stand together, as `split_by_prompt` leaves them.
        prompts: how many; None for all.
        answers: to each of them, at most; None for all.

    Examples:
        >>> from unlearning import Example
        >>> split = [Example("1?", "a"), Example("1?", "b"), Example("2?", "c"), Example("3?", "d")]
        >>> [e.response for e in first_answers(split, prompts=2, answers=1)]
        ['a', 'c']
    """
    if prompts is None and answers is None:
        return examples
    wanted, asked, number, last = [], 0, 0, None
    for place, example in enumerate(examples):
        prompt = normalise(example.conversation)
        if prompt != last:
            asked, number, last = asked + 1, 0, prompt
        if prompts is not None and asked > prompts:
            break
        number += 1
        if answers is None or number <= answers:
            wanted.append(place)
    return take(examples, np.array(wanted, dtype=np.int64))


def checked_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Checks and returns three shares as floats.

    Raises:
        ConfigError: they are no shares of 1, or the train share is 0.

    Examples:
        >>> checked_fractions((0.5, 0.25, 0.25))
        (0.5, 0.25, 0.25)
    """
    shares = tuple(float(share) for share in fractions)
    valid = len(shares) == 3 and min(shares) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-6)
    if not valid or shares[0] == 0:
        raise ConfigError(
            f"fractions={shares}: expected three shares (train, validation, test) that are not "
            "negative and sum to 1, the first above 0, for example (0.7, 0.1, 0.2)."
        )
    return shares[0], shares[1], shares[2]
