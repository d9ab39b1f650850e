"""Token sequences in one memory-mapped file.

The file holds the tokens (int32), prompt and response in turn; where each of them begins (int64,
one more for the end); and three int64: how many tokens and sequences, and how many answers were
cut. That is 4 bytes a token and 16 a sequence.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Sequence
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from unlearning.types import TokenizedExample

WORD = 8  # bytes of an int64
TAIL = 3 * WORD


class TokenStore(Sequence[TokenizedExample]):
    """A sequence of TokenizedExamples, read from the file when asked for. A pickle carries the
    tokens.

    Args:
        tokens: [total tokens] int32, prompt and response in turn.
        starts: [2 * sequences + 1] int64, where each of them begins, and where the last one ends.
    """

    def __init__(self, tokens: NDArray[np.int32], starts: NDArray[np.int64]) -> None:
        self.tokens, self.starts = tokens, starts

    def __len__(self) -> int:
        return len(self.starts) // 2

    @overload
    def __getitem__(self, number: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, number: slice) -> list[TokenizedExample]: ...
    def __getitem__(self, number: int | slice) -> TokenizedExample | list[TokenizedExample]:
        numbers = range(len(self))[number]
        return self._one(numbers) if isinstance(numbers, int) else [self._one(n) for n in numbers]

    def _one(self, number: int) -> TokenizedExample:
        start, middle, end = self.starts[2 * number : 2 * number + 3].tolist()
        ids = tuple(self.tokens[start:end].tolist())
        return TokenizedExample(ids[: middle - start], ids[middle - start :])

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same sequences; it may be a list."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenStore:
        return self  # nothing in it ever changes


def write_tokens(file: IO[bytes], blocks: Iterable[tuple[Iterable[TokenizedExample], int]]) -> None:
    """Writes a token file.

    Args:
        blocks: sequences, and how many answers of the block were cut; one block is in memory.
    """
    starts, truncated = array("q", [0]), 0
    for sequences, cut in blocks:
        truncated += cut
        for sequence in sequences:
            for ids in (sequence.prompt_ids, sequence.response_ids):
                file.write(array("i", ids))
                starts.append(starts[-1] + len(ids))
    file.write(bytes(-file.tell() % WORD))  # or the words after it would stand athwart
    file.write(starts)
    file.write(array("q", [starts[-1], len(starts), truncated]))
    file.flush()


def read_tokens(file: IO[bytes]) -> tuple[TokenStore, int]:
    """Reads a token file: its sequences, and how many answers were cut. The file may be closed
    then."""
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tail = np.frombuffer(content, np.int64, offset=len(content) - TAIL)
    num_tokens, num_starts, truncated = tail.tolist()
    tokens = np.frombuffer(content, np.int32, num_tokens)
    starts = np.frombuffer(content, np.int64, num_starts, len(content) - TAIL - num_starts * WORD)
    return TokenStore(tokens, starts), truncated


def token_counts(
    sequences: Iterable[TokenizedExample],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the number of tokens of each prompt and of each response: two arrays [sequences]."""
    if isinstance(sequences, TokenStore):
        starts = sequences.starts
        return starts[1::2] - starts[:-1:2], starts[2::2] - starts[1::2]
    both = (len(ids) for s in sequences for ids in (s.prompt_ids, s.response_ids))
    counts = np.fromiter(both, dtype=np.int64).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]
