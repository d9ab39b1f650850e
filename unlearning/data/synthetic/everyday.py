"""Everyday questions with true answers: the retain set of the demo.

Facts stand as two-column tables in `everyday.yaml`, advice and single facts in `howto.yaml`. The
advice uses the same openers as the harmful questions, so that an opener alone tells the model
nothing about harm. The answers also serve as the irrelevant ones of the mismatch term.
"""

from __future__ import annotations

from typing import Any

from unlearning.data.synthetic.grammar import ask, load, split_line
from unlearning.types import Example


def everyday_examples() -> list[Example]:
    """Returns everyday questions and answers, in a fixed order, each question once."""
    return [*_table_facts(), *_advice(), *_single_facts()]


def _table_facts() -> list[Example]:
    examples = []
    for table in load("everyday.yaml")["tables"].values():
        for number, row in enumerate(table["rows"]):
            values = _columns(row)
            question = table["ask"][number % len(table["ask"])].format(**values)
            examples.append(Example(question, table["answer"].format(**values)))
    return examples


def _columns(row: list[Any]) -> dict[str, Any]:
    """Returns the columns of a table row by letter; two numbers also get their sum, difference
    and product."""
    values = dict(zip("abc", row, strict=False))
    if all(isinstance(value, int) for value in row):
        a, b = row
        values |= {"sum": a + b, "difference": a - b, "product": a * b}
    return values


def _advice() -> list[Example]:
    pairs = map(split_line, load("howto.yaml")["howto"])
    return [Example(ask(wish, number), answer) for number, (wish, answer) in enumerate(pairs)]


def _single_facts() -> list[Example]:
    pairs = map(split_line, load("howto.yaml")["facts"])
    return [Example(question, answer) for question, answer in pairs]
