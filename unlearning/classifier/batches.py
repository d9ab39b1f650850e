"""Collates labelled comments into padded batches, and groups them by length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Comment:
    """One labelled text.

    Args:
        index: its row in the source, which tells copies of one row apart from equal rows.
        labels: one 0 or 1 per label.
    """

    index: int
    text: str
    labels: tuple[float, ...]

    @property
    def harmful(self) -> bool:
        return any(self.labels)


@dataclass(frozen=True)
class CommentCollator:
    """Tokenises a batch when it is drawn, and pads it to its longest row.

    Nothing is tokenised ahead, so a large file costs no start-up time and no memory.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def __call__(self, comments: list[Comment]) -> dict[str, Tensor]:
        encoded = self.tokenizer(
            [comment.text for comment in comments],
            truncation=True,
            max_length=self.max_length,
            padding="longest",
            return_tensors="pt",
        )
        batch: dict[str, Tensor] = dict(encoded)
        batch["labels"] = torch.tensor([comment.labels for comment in comments])
        batch["index"] = torch.tensor([comment.index for comment in comments])
        return batch


class LengthGroupedSampler(Sampler[int]):
    """Shuffled sampler in which neighbours have similar lengths, to save padding.

    The rows are shuffled, cut into windows of `window` batches, each window is sorted by length
    and cut into batches, and the batches are shuffled. The order is a function of (seed, epoch);
    Lightning calls `set_epoch`. It orders single rows rather than batches because Lightning can
    then wrap it for several processes. With `window=0` it is a plain shuffle.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int = 0, window: int = 50
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.window = window
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        if not self.window:
            return iter(order)
        batches: list[list[int]] = []
        rows = self.window * self.batch_size
        for start in range(0, len(order), rows):
            group = sorted(order[start : start + rows], key=self.lengths.__getitem__)
            batches += [
                group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)
            ]
        # A short batch must stay last: anywhere else it would shift the cuts of all that follow.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rng.shuffle(full)
        return iter([row for batch in full + short for row in batch])
