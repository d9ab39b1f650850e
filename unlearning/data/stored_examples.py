"""Examples whose text lies in a memory-mapped file; only offsets are in memory.

The file has no name, so nothing can be stale or left behind: its disk space, about that of the text
as UTF-8, is freed when the last reader closes it.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from unlearning.types import Example

ERRORS = "surrogatepass"  # an unpaired surrogate, which JSON can bring, stays what it is
BLOCK = 1000  # Examples that are made at a time where all are gone through


class StoredExamples(Sequence[Example]):
    """A selection of the Examples of a file, in an order of its own; made by `store`.

    Takes 24 bytes of memory an Example. An Example is made when it is asked for. A fork shares the
    map; a pickle carries the text.

    Args:
        text: prompts and responses in turn, as UTF-8.
        starts: [2 * stored + 1] where each of them begins in the text, and where the last one ends.
        rows: [Examples] which of the stored ones these are; None takes all.
        more: alternatives, labels, turns and generated tokens, where any Example has some.
    """

    def __init__(
        self,
        text: mmap.mmap | bytes,
        starts: NDArray[np.int64],
        rows: NDArray[np.int64] | None = None,
        more: _More | None = None,
    ) -> None:
        self._text, self._starts, self._more = text, starts, more
        self.rows = np.arange(len(starts) // 2) if rows is None else rows

    def take(self, numbers: NDArray[np.int64]) -> StoredExamples:
        """Returns these examples, in this order; copies no text."""
        return StoredExamples(self._text, self._starts, self.rows[numbers], self._more)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, number: int) -> Example: ...
    @overload
    def __getitem__(self, number: slice) -> list[Example]: ...
    def __getitem__(self, number: int | slice) -> Example | list[Example]:
        if isinstance(number, slice):
            return self._examples(self.rows[number])
        return self._examples(self.rows[number, None])[0]

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]

    def _examples(self, rows: NDArray[np.int64]) -> list[Example]:
        # Three places an Example: where prompt and response begin, and where the response ends.
        places = self._starts[2 * rows[:, None] + np.arange(3)].tolist()
        found = [Example(self._decoded(a, b), self._decoded(b, c)) for a, b, c in places]
        if self._more is None:
            return found
        return [self._more.added(each, row) for each, row in zip(found, rows.tolist(), strict=True)]

    def _decoded(self, start: int, end: int) -> str:
        return self._text[start:end].decode("utf-8", ERRORS)

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same Examples; it may be a list."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return store, (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredExamples:
        return self  # nothing in it ever changes


def store(examples: Iterable[Example], folder: str | Path | None = None) -> StoredExamples:
    """Writes Examples to a file without a name; one at a time is in memory.

    Args:
        folder: on whose disk; None takes the system's for temporary files (`TMPDIR`).
    """
    if folder is not None:
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    starts, more_starts = array("q", [0]), array("q", [0])
    with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as others:
        end = 0
        for number, example in enumerate(examples):
            for text in (example.prompt, example.response):
                end += file.write(text.encode("utf-8", ERRORS))
                starts.append(end)
            if _has_more(example):
                more_starts.extend([more_starts[-1]] * (number + 1 - len(more_starts)))
                others_of = [example.alternatives, example.label, example.turns]
                content = json.dumps([*others_of, example.response_ids]).encode()
                more_starts.append(more_starts[-1] + others.write(content))
        more = None
        if len(more_starts) > 1:
            more = _More(_mapped(others), np.frombuffer(more_starts, dtype=np.int64))
        text_of_all = _mapped(file) if end else b""
    return StoredExamples(text_of_all, np.frombuffer(starts, dtype=np.int64), more=more)


def _has_more(example: Example) -> bool:
    """Whether an Example has anything beside its texts."""
    others = (example.alternatives, example.turns, example.response_ids)
    return any(others) or example.label is not None


@dataclass(frozen=True)
class _More:
    """Alternatives, labels, turns and generated tokens of stored Examples, as JSON.

    Args:
        starts: where each begins in the text; shorter than the Examples where the last have none.
    """

    text: mmap.mmap | bytes
    starts: NDArray[np.int64]

    def added(self, example: Example, row: int) -> Example:
        """The Example with what stands in this row."""
        if row + 1 >= len(self.starts) or self.starts[row] == self.starts[row + 1]:
            return example
        content = self.text[self.starts[row] : self.starts[row + 1]]
        alternatives, label, turns, ids = json.loads(content)
        return Example(
            example.prompt, example.response, dict(alternatives), label, turns, tuple(ids)
        )


def _mapped(file: IO[bytes]) -> mmap.mmap:
    """The map outlives the file; of nothing there is none."""
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def take(examples: Sequence[Example], numbers: NDArray[np.int64]) -> Sequence[Example]:
    """Returns these Examples, in this order: stored ones without copying text, else a list."""
    if isinstance(examples, StoredExamples):
        return examples.take(numbers)
    return [examples[number] for number in numbers]
