"""Draws retain pairs and mismatch answers, from a list or from a stream."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableMapping, Sequence

from unlearning.data.example_stream import ExampleStream, Numbered
from unlearning.data.mismatch import MismatchSampler
from unlearning.data.stream import ShuffledOrder
from unlearning.data.tokenize import Tokenized
from unlearning.types import Example, TokenizedExample

log = logging.getLogger(__name__)
NumberedSequence = tuple[int, TokenizedExample]


class RetainPairs(ABC):
    """Interface: tokenised retain pairs, with their numbers in the training split."""

    @abstractmethod
    def at(self, positions: Iterable[int]) -> list[NumberedSequence]:
        """Returns the pairs at some positions of the endless order."""


class MismatchAnswers(ABC):
    """Interface: tokenised answers to other prompts, with their numbers in their list."""

    @abstractmethod
    def draw(self, forget: int, epoch: int) -> list[NumberedSequence]:
        """Draws K pairs with different answers for one forget example in one epoch."""


class ListedPairs(RetainPairs):
    """Retain pairs that are all tokenised beforehand."""

    def __init__(self, sequences: Sequence[TokenizedExample], order: ShuffledOrder) -> None:
        self.sequences, self.order = sequences, order

    def at(self, positions: Iterable[int]) -> list[NumberedSequence]:
        numbers = (self.order[position][1] for position in positions)
        return [(number, self.sequences[number]) for number in numbers]


class ListedMismatches(MismatchAnswers):
    """Mismatch answers that are all tokenised beforehand."""

    def __init__(self, sequences: Sequence[TokenizedExample], sampler: MismatchSampler) -> None:
        self.sequences, self.sampler = sequences, sampler

    def draw(self, forget: int, epoch: int) -> list[NumberedSequence]:
        return [(number, self.sequences[number]) for number in self.sampler.draw(forget, epoch)]


class StreamedPairs(RetainPairs):
    """Retain pairs of a stream, tokenised when they are needed.

    Args:
        tokenize: see `tokenize_windows`.
        truncated: its "retain" counts the answers that were cut to fit, so far.
    """

    def __init__(
        self,
        stream: ExampleStream,
        tokenize: Callable[[list[Example]], Tokenized],
        truncated: MutableMapping[str, int],
    ) -> None:
        self.stream, self.tokenize, self.truncated = stream, tokenize, truncated
        truncated["retain"] = 0

    def at(self, positions: Iterable[int]) -> list[NumberedSequence]:
        numbered = [self.stream[n][1:] for n in positions]
        tokenized = self.tokenize([example for _, example in numbered])
        if tokenized.truncated and not self.truncated["retain"]:
            log.warning("A streamed answer was cut to fit max_length; the next ones are counted.")
        self.truncated["retain"] += tokenized.truncated
        return _with_numbers(numbered, tokenized)


class StreamedMismatches(MismatchAnswers):
    """Mismatch answers of a stream's pool, tokenised when they are needed.

    The pool stays: drawn from the block in memory, they would depend on how fast the two streams
    move.

    Args:
        pool: Examples with their numbers.
        sampler: of the pool.
        tokenize: see `tokenize_windows`.
    """

    def __init__(
        self,
        pool: Sequence[Numbered],
        sampler: MismatchSampler,
        tokenize: Callable[[list[Example]], Tokenized],
    ) -> None:
        self.pool, self.sampler, self.tokenize = pool, sampler, tokenize

    def draw(self, forget: int, epoch: int) -> list[NumberedSequence]:
        numbered = [self.pool[n] for n in self.sampler.draw(forget, epoch)]
        return _with_numbers(numbered, self.tokenize([example for _, example in numbered]))


def _with_numbers(numbered: Sequence[Numbered], tokenized: Tokenized) -> list[NumberedSequence]:
    numbers = (number for number, _ in numbered)
    return list(zip(numbers, tokenized.sequences, strict=True))
