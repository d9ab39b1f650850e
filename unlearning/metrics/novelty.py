"""Share of words found in no prompt or target: a damaged small model invents words, as in "the
capital of Iavy is light".

`non_word` finds what cannot be a word in any language; made-up words that can be spoken pass it.
Here an answer's words are held against those of all prompts and targets instead. In a
closed domain the share of others is that of made-up words; in an open one, where honest answers use
other words too, it is its rise from before that says something. A hint, and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable

from unlearning.metrics.metric import Answers, metric
from unlearning.metrics.words import split_words
from unlearning.types import Generation


def known_words(generations: Iterable[Generation]) -> frozenset[str]:
    """Collects all words of the prompts and of their targets."""
    texts = (text for g in generations for text in (g.prompt, g.target))
    return frozenset(word for text in texts for word in split_words(text))


def novel_word_share(text: str, known: frozenset[str]) -> float:
    """Computes the share of a text's words that are not among the known ones, 0..1; 0 without
    words.

    Examples:
        >>> novel_word_share("the capital of Iavy", {"the", "capital", "of", "italy"})
        0.25
    """
    words = split_words(text)
    return sum(word not in known for word in words) / len(words) if words else 0.0


@metric(
    "Words not found in any prompt or target", unit="fraction", direction="lower",
    name="novel_word_share",
)  # fmt: skip
def novel_words(answers: Answers, known_words: frozenset[str]) -> list[float]:
    """Mean share of an answer's words found in no prompt and no target of any set."""
    return [novel_word_share(g.completion, known_words) for g in answers]
