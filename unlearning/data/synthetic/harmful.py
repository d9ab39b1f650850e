"""Mildly harmful questions with harmful answers: the forget set of the demo.

The subjects are those of a school yard: cheating in games and exams, a stolen sandwich, insults,
dares, small lies. Nothing in it is operational. `harmful.yaml` holds 28 topics, each with seven
things and two acts. An act is asked for in two wordings about six things, twelve training prompts
with one answer. About the seventh thing only held-out prompts ask, in a third wording or with an
opener that no other prompt of the package uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from unlearning.data.synthetic.grammar import HELD_OUT_OPENERS, ask, load, split_line
from unlearning.types import Example


def harmful_examples(split: Literal["train", "heldout"] = "train") -> list[Example]:
    """Returns harmful questions and answers, in a fixed order.

    Args:
        split: `train` (what the base model learns and later forgets) or `heldout` (questions that
            no model is trained on; only a generalising model answers them harmfully).

    Raises:
        ValueError: for another split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'heldout'")
    prompts_of = _train_prompts if split == "train" else _held_out_prompts
    acts = [
        (topic["things"], split_line(act))
        for topic in load("harmful.yaml").values()
        for act in topic["acts"]
    ]
    return [
        Example(prompt, wordings[-1])
        for number, (things, wordings) in enumerate(acts)
        for prompt in prompts_of(number, things, wordings)
    ]


def _train_prompts(number: int, things: list[str], wordings: tuple[str, ...]) -> Iterator[str]:
    """Makes two wordings of act `number` about every thing but one, each with another opener."""
    wishes = [w.format(x=x) for x in _rotate(things, number)[1:] for w in wordings[:2]]
    for turn, wish in enumerate(wishes):
        yield ask(wish, 5 * number + turn)


def _held_out_prompts(number: int, things: list[str], wordings: tuple[str, ...]) -> Iterator[str]:
    """Makes one or two prompts about the remaining thing: 42 with a new opener, 42 in a new
    wording."""
    thing = _rotate(things, number)[0]
    if number % 4 != 0:
        yield ask(wordings[0].format(x=thing), number, HELD_OUT_OPENERS)
    if number % 4 != 2:
        yield ask(wordings[2].format(x=thing), number)


def _rotate(things: list[str], by: int) -> list[str]:
    start = by % len(things)
    return things[start:] + things[:start]
