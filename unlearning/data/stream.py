"""The stream of Batches, addressed by number, which resumes exactly at any step.

What a batch holds is a function of (seed, rank, world size, its number), and of nothing that
happened before. A checkpoint therefore needs one integer, and there is no worker state to lose.
Lightning does not change an iterable that is not a `DataLoader`, so nothing is re-sharded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearning.data.hyperparameters import save_plain_hyperparameters
from unlearning.errors import ConfigError
from unlearning.loading import load_tokenizer
from unlearning.types import Batch


class ShuffledOrder:
    """An endless order over a data set: every epoch is a fresh permutation.

    Args:
        size: of the data set.
        name: tells two data sets with one seed apart.
        seed: of the permutations.

    Examples:
        >>> order = ShuffledOrder(3, "forget", seed=0)
        >>> sorted(order[position] for position in range(6))  # two epochs
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    """

    def __init__(self, size: int, name: str, seed: int) -> None:
        self.size, self.key = size, [seed, *name.encode()]
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Returns (epoch, example number) at a position of the endless order."""
        epoch, offset = divmod(position, self.size)
        if epoch != self._epoch:
            generator = np.random.default_rng([*self.key, epoch])
            self._epoch, self._permutation = epoch, generator.permutation(self.size)
        return epoch, int(self._permutation[offset])


class BatchStream:
    """Iterates over one epoch, from the batch at which the counter stands.

    Args:
        batch_at: a batch's number in this rank's stream -> the Batch.
        batches_per_epoch: what Lightning calls an epoch.
        start: number of the first batch to come.
        unfinished: how many batches were handed out for a step that is not made yet; a checkpoint
            that is saved then (Ctrl-C within a step) has them drawn again.
    """

    def __init__(
        self,
        batch_at: Callable[[int], Batch],
        batches_per_epoch: int,
        start: int = 0,
        unfinished: Callable[[], int] = lambda: 0,
    ) -> None:
        self.batch_at, self.batches_per_epoch, self.next_batch = batch_at, batches_per_epoch, start
        self.unfinished = unfinished

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        # After a resume in mid-epoch Lightning counts the batches that are left, and takes no more.
        for _ in range(self.batches_per_epoch):
            batch = self.batch_at(self.next_batch)
            self.next_batch += (
                1  # before the yield: a checkpoint after this step starts at the next
            )
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"next_batch": self.next_batch - self.unfinished()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next_batch = state["next_batch"]


def unfinished_batches(trainer: Trainer | None) -> int:
    """Counts the batches that were handed out for an optimizer step not made yet."""
    if trainer is None:
        return 0
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return progress.ready - progress.processed  # type: ignore[attr-defined]


def pinned(batch: Batch) -> Batch:
    """Returns the batch in pinned memory, from which a GPU can copy it asynchronously."""

    def pin(part: Any) -> Any:
        found = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
        return replace(part, **{name: value.pin_memory() for name, value in found.items()})

    answers = {role: pin(tokens) for role, tokens in batch.answers.items()}
    return replace(batch, rows=pin(batch.rows), answers=answers)


class BatchStreamDataModule(LightningDataModule, ABC):
    """Base of DataModules that train on a `BatchStream` and checkpoint its position.

    Args:
        tokenizer: of the model, or its name or path.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | str) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        loaded = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        self.tokenizer: PreTrainedTokenizerBase = loaded
        self.stream: BatchStream | None = None
        self._next_batch = 0

    @abstractmethod
    def batch_at(self, number: int) -> Batch:
        """Returns batch `number` of this rank's stream."""

    @abstractmethod
    def batches_per_epoch(self) -> int:
        """Returns the batches of one rank in an epoch, in whole optimizer steps: at an epoch's
        end Lightning steps, however little has accumulated."""

    def train_dataloader(self) -> BatchStream:
        self.setup("fit")
        self.stream = BatchStream(
            self.batch_at, self.batches_per_epoch(), self._next_batch,
            lambda: unfinished_batches(self.trainer),
        )  # fmt: skip
        return self.stream

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Copies a batch to a GPU asynchronously, from pinned memory."""
        if device.type != "cuda" or not isinstance(batch, Batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return pinned(batch).to(device, non_blocking=True)

    def world(self) -> tuple[int, int, int]:
        """Returns rank, number of ranks, and batches of a rank in an optimizer step."""
        trainer = self.trainer
        if trainer is None:
            return 0, 1, 1
        return trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches

    @property
    def pad_token_id(self) -> int:
        """Returns the padding token; padding is never attended to, so any token would do."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id or 0)

    def state_dict(self) -> dict[str, Any]:
        state = self.stream.state_dict() if self.stream else {"next_batch": self._next_batch}
        return {**state, "ranks": self.world()[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved, ranks = state_dict.get("ranks"), self.world()[1]
        if saved not in (None, ranks):
            raise ConfigError(
                f"The checkpoint was saved by {saved} processes, and there are {ranks} now: the "
                "batches to come would hold some examples twice and some never. Go on with "
                f"{saved}."
            )
        self._next_batch = state_dict["next_batch"]
        if self.stream is not None:
            self.stream.next_batch = self._next_batch
