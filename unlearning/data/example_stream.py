"""Random access by position to Examples that are read as a shuffled stream.

What stands at a position is a function of (seed, position) and the text, as with `ShuffledOrder`,
so a run resumes exactly from its batch counter. A shuffling buffer that is refilled one by one
could not do that without keeping its whole content; here the stream is cut into blocks, and each
block is permuted by a generator of its own. One block is in memory, however long the corpus.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from itertools import islice

import numpy as np

from unlearning.errors import ConfigError
from unlearning.types import Example

Numbered = tuple[int, Example]


class ExampleStream:
    """A shuffled stream of Examples with random access: `stream[position]` is (epoch, number,
    Example).

    Every epoch reads the parts in another order and permutes the blocks anew; no Example is left
    out or repeated. Positions may be asked for in any order, going up is cheap: otherwise the epoch
    is read again up to the block, less the parts whose size is known from an earlier reading.

    Args:
        open_part: a part's number -> its Examples with their numbers, the same every time.
        num_parts: files, or shards.
        buffer_size: Examples of a block.
        name: tells two streams with one seed apart; errors name it.
        seed: of parts' order and permutations.
    """

    _epoch: int
    _first: int  # the position at which the block in memory begins
    _block: list[Numbered]
    _reader: Generator[Numbered, None, None]
    _to_come: tuple[int, int]  # (epoch, block) that the reader stands before

    def __init__(
        self,
        open_part: Callable[[int], Iterator[Numbered]],
        num_parts: int,
        buffer_size: int,
        name: str,
        seed: int,
    ) -> None:
        self.open_part, self.num_parts, self.buffer_size = open_part, num_parts, buffer_size
        self.name, self.key = name, [seed, *name.encode()]
        self.sizes: dict[int, int] = {}  # of the parts that were read to their end
        self._forget_block()

    @property
    def size(self) -> int | None:
        """Returns the number of Examples in an epoch, once all parts were read."""
        return sum(self.sizes.values()) if len(self.sizes) == self.num_parts else None

    def __getitem__(self, position: int) -> tuple[int, int, Example]:
        if not self._first <= position < self._first + len(self._block):
            self._seek(position)
        number, example = self._block[position - self._first]
        return self._epoch, number, example

    def head(self, most: int) -> list[Numbered]:
        """Returns the Examples of the first positions, at most `most` and none twice."""
        found: list[Numbered] = []
        while len(found) < most and (self.size is None or len(found) < self.size):
            epoch, number, example = self[len(found)]
            if epoch > 0:  # the blocks filled the epoch exactly, and its size is known only now
                break
            found.append((number, example))
        return found

    def _seek(self, position: int) -> None:
        if self.size is None:
            # In the first epoch, or past it; then its size is known afterwards.
            self._read(0, position // self.buffer_size, 0)
            if position < self._first + len(self._block):
                return
        size = self.size
        if not size:
            raise no_training_window(self.name)
        epoch, offset = divmod(position, size)
        self._read(epoch, offset // self.buffer_size, epoch * size)

    def _read(self, epoch: int, block: int, epoch_start: int) -> None:
        if self._to_come != (epoch, block):
            self._reader.close()
            self._reader = self._examples(epoch, skip=block * self.buffer_size)
        self._to_come = (-1, -1)  # should reading fail, the reader is of no more use
        self._block = []  # before the next one is read: never two at a time
        read = list(islice(self._reader, self.buffer_size))
        permutation = self._generator("block", epoch, block).permutation(len(read))
        self._block = [read[n] for n in permutation]
        self._epoch, self._first = epoch, epoch_start + block * self.buffer_size
        self._to_come = (epoch, block + 1)

    def _examples(self, epoch: int, skip: int) -> Generator[Numbered, None, None]:
        """Yields an epoch's Examples in the order of reading, from the one after `skip`."""
        for part in map(int, self._generator("parts", epoch).permutation(self.num_parts)):
            if self.sizes.get(part, skip + 1) <= skip:
                skip -= self.sizes[part]
                continue
            count = 0
            for count, item in enumerate(self.open_part(part), start=1):
                if count > skip:
                    yield item
            self.sizes[part] = count
            skip = max(0, skip - count)

    def _generator(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([*self.key, *purpose.encode(), *numbers])

    def _forget_block(self) -> None:
        self._epoch, self._first, self._block = 0, 0, []
        self._to_come, self._reader = (-1, -1), self._examples(0, 0)

    def __getstate__(self) -> dict[str, object]:
        """Pickles the stream for worker processes; an open file cannot be pickled."""
        kept = ("open_part", "num_parts", "buffer_size", "name", "key", "sizes")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._forget_block()


class StreamedExamples(ABC):
    """Base of data sets whose training split can be read as a stream.

    Attributes:
        streaming: whether it is to be; `examples("train")` is refused then.
        mismatch_pool: how many Examples, from the stream's head, mismatch answers are drawn from.
    """

    streaming: bool
    mismatch_pool: int

    @abstractmethod
    def stream(self, seed: int | None = None) -> ExampleStream:
        """Returns the training split as a stream, shuffled by a seed (None: the data set's own)."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a hash of everything that the stream depends on but the seed of its order."""


def no_training_window(name: str) -> ConfigError:
    return ConfigError(
        f"{name} has no training window. Add text, lower section_windows or raise the first of the "
        "fractions."
    )
