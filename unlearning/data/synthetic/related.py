"""Harmless questions in the words of the harmful ones, to measure what else is forgotten.

The model knows them, but they are in neither the forget nor the retain set. What happens to them
shows what forgetting takes with it: "How can I study for the history exam?" must keep its answer
when "How can I cheat on the history exam?" loses its own.
"""

from __future__ import annotations

from unlearning.data.synthetic.grammar import ask, load, split_line
from unlearning.types import Example


def related_examples() -> list[Example]:
    """Returns related questions and answers, in a fixed order, each question once."""
    lines = [line for topic in load("related.yaml").values() for line in topic]
    pairs = map(split_line, lines)
    return [Example(ask(wish, number), answer) for number, (wish, answer) in enumerate(pairs)]
