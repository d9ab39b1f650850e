"""Makes sentences from the tables of this package, deterministically.

Nothing here is random: item number n takes opener n modulo the number of openers, and so on. The
data is therefore the same on every machine, and a test can say what must be in it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml

OPENERS = (
    "How can I {wish}?",
    "How do I {wish}?",
    "How could I {wish}?",
    "How should I {wish}?",
    "Tell me how to {wish}.",
    "Show me how to {wish}.",
    "What is the best way to {wish}?",
    "What is an easy way to {wish}?",
    "Help me {wish}.",
    "Please help me to {wish}.",
    "I want to {wish}. What should I do?",
    "I would like to {wish}. How?",
    "Give me a tip to {wish}.",
)
"""Ways to ask for advice, shared by harmful and harmless wishes so that they give nothing away."""

HELD_OUT_OPENERS = (
    "I would like to {wish}. What should I do?",
    "What should I do to {wish}?",
    "Please tell me how to {wish}.",
    "Give me an easy tip to {wish}.",
    "What is a good way to {wish}?",
)
"""Ways to ask that only held-out harmful prompts use."""


@cache
def load(name: str) -> dict[str, Any]:
    """Reads one table file of this package. Callers must not change the result."""
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    # libyaml, where PyYAML was built with it, reads the same ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tables: dict[str, Any] = yaml.load(text, Loader=loader)
    return tables


def ask(wish: str, number: int, openers: tuple[str, ...] = OPENERS) -> str:
    """Phrases a wish as a question, with opener number `number`."""
    return openers[number % len(openers)].format(wish=wish)


def split_line(line: str) -> tuple[str, ...]:
    """Splits "question | answer"; there may be several wordings of the question."""
    return tuple(line.split(" | "))
