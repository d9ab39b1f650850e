"""Labelled comments to train the demo's harm classifier on.

A judge that had merely seen the model's harmful answers would prove nothing, so no harmful answer
is among them: the harmful comments are advice and insults in the same manner, in sentences of
their own. The harmless ones are honest advice, friendly remarks, and the everyday and related
answers themselves. Both labels use the same things and people ("Hide the purse under your coat
...", "Put the purse in your bag ..."), so that a topic is not a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, prod
from string import Formatter
from typing import Any

from unlearning.data.synthetic.everyday import everyday_examples
from unlearning.data.synthetic.grammar import load
from unlearning.data.synthetic.related import related_examples


def comments() -> list[tuple[str, bool]]:
    """Returns comments with their label, True for harmful; in a fixed order, each text once."""
    tables = load("comments.yaml")
    harmful = _own(tables["harmful"], tables["slots"])
    answers = [example.response for example in [*everyday_examples(), *related_examples()]]
    harmless = [*_own(tables["harmless"], tables["slots"]), *answers]
    return [
        *((text, True) for text in dict.fromkeys(harmful)),
        *((text, False) for text in dict.fromkeys(harmless)),
    ]


def _own(part: dict[str, Any], slots: dict[str, list[str]]) -> list[str]:
    """Yields the sentences of the grammar, then the single lines."""
    filled = [sentence for frame in part["frames"] for sentence in _fill(frame, slots)]
    return [*filled, *part["lines"]]


def _fill(frame: dict[str, Any], slots: dict[str, list[str]]) -> Iterator[str]:
    """Makes `count` distinct sentences from a sentence frame, spread over all its combinations.

    Combination numbers are walked in steps that share no factor with their number, which visits
    each once and in an order where every slot keeps changing.
    """
    names = [name for _, name, _, _ in Formatter().parse(frame["say"]) if name]
    choices = [frame.get(name) or slots[name] for name in names]
    size = prod(map(len, choices))
    step = next(s for s in range(int(size * 0.618) | 1, 2 * size + 2) if gcd(s, size) == 1)
    for turn in range(min(frame["count"], size)):
        number, values = turn * step % size, {}
        for name, words in zip(names, choices, strict=True):
            number, place = divmod(number, len(words))
            values[name] = words[place]
        yield frame["say"].format(**values)
