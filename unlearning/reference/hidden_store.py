"""A memory-mapped file of the reference's hidden states."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from unlearning.data.token_store import token_counts
from unlearning.files.once import made_once
from unlearning.types import TokenizedExample

FORMAT = 2  # raise it when the kept file's meaning changes; 1 had no checksum


class HiddenStore:
    """Hidden states [total tokens, D] of all answers, found by sequence number.

    Args:
        states: the flat states; may be a memory map.
        lengths: [sequences] answer tokens of each.
    """

    def __init__(self, states: Tensor, lengths: ArrayLike) -> None:
        self.states = states
        self.starts = np.append(0, np.cumsum(lengths, dtype=np.int64))

    def __len__(self) -> int:
        """Returns the number of sequences."""
        return len(self.starts) - 1

    def rows(self, numbers: Iterable[int]) -> Tensor:
        """Returns the states [N, D] of some sequences, one after the other."""
        return torch.cat([self._rows(n) for n in numbers])

    def _rows(self, number: int) -> Tensor:
        start, end = self.starts[number : number + 2].tolist()
        return self.states[start:end]

    @classmethod
    def open_or_build(
        cls,
        sequences: Sequence[TokenizedExample],
        states: Iterable[tuple[int, Tensor]],
        width: int,
        dtype: torch.dtype,
        cache_dir: str | Path | None,
        model_key: str | None,
    ) -> HiddenStore:
        """Opens the file for this model and these sequences, or writes it.

        Args:
            states: (sequence number, [tokens, D]) in any order; consumed only if nothing is kept.
            width: D.
            model_key: fingerprint of the model's weights; None with `cache_dir=None`.
        """
        lengths = token_counts(sequences)[1]
        shape = (int(lengths.sum()), width)
        if cache_dir is None or model_key is None:
            store = cls(torch.empty(shape, dtype=dtype), lengths)
            store._fill(states)
            return store

        def make(path: Path) -> None:
            cls(_map(path, shape, dtype, writable=True), lengths)._fill(states)

        name = f"{model_key}-{_key(sequences, dtype)}.bin"
        path = made_once(Path(cache_dir) / "reference" / name, make)
        return cls(_map(path, shape, dtype, writable=False), lengths)

    def _fill(self, states: Iterable[tuple[int, Tensor]]) -> None:
        for number, rows in states:
            self._rows(number)[:] = rows


def _map(path: Path, shape: tuple[int, int], dtype: torch.dtype, writable: bool) -> Tensor:
    size = shape[0] * shape[1]
    if writable and size:
        # Room first: on a disk that gets full, writing to the map would kill the process.
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    return torch.from_file(str(path), shared=writable, size=size, dtype=dtype).view(shape)


def _key(sequences: Iterable[TokenizedExample], dtype: torch.dtype) -> str:
    digest = hashlib.sha256(f"{FORMAT} {dtype}".encode())
    for sequence in sequences:
        digest.update(repr((sequence.prompt_ids, sequence.response_ids)).encode())
    return digest.hexdigest()[:24]
