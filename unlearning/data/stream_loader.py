"""Batches of a stream, sharded over ranks and workers, for a plain loop or a Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from lightning import Trainer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from unlearning.data.example_stream import ExampleStream, Numbered
from unlearning.data.layout import padded_batch
from unlearning.data.stream import unfinished_batches
from unlearning.data.template import Template
from unlearning.data.tokenize_windows import tokenize_windows
from unlearning.types import Batch, Example


@dataclass
class BatchMaker:
    """Collates numbered Examples to a Batch, with every answer in the role `train`; without a
    tokenizer, to the list of Examples."""

    tokenizer: PreTrainedTokenizerBase | None
    template: Template
    max_length: int

    def __call__(self, numbered: list[Numbered], index: int) -> Batch | list[Example]:
        examples = [example for _, example in numbered]
        if self.tokenizer is None:
            return examples
        tokenized = tokenize_windows(examples, self.tokenizer, self.template, self.max_length)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        numbers = [number for number, _ in numbered]
        rows = list(zip(numbers, tokenized.sequences, strict=True))
        return replace(padded_batch([("train", rows)], int(pad)), index=index)


class StreamBatches(IterableDataset):
    """Iterates over one epoch of a rank's batches, from batch `first` on.

    Batch n of rank r holds the same Examples whatever the number of workers, worker w of W makes
    the batches n = w (mod W), and a DataLoader takes them in turn: their order is the same, too.
    Positions of an endless order are sharded over ranks and workers, so every rank has as many
    batches as the others; an epoch's last batch is filled up from the next epoch, which goes on
    from there.

    Args:
        make: numbered Examples and the batch's number -> the batch.
        batch_size: Examples in it.
    """

    def __init__(
        self,
        stream: ExampleStream,
        make: Callable[[list[Numbered], int], Any],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stream, self.make, self.batch_size = stream, make, batch_size
        self.rank, self.world_size, self.first = rank, world_size, 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        place, step = (worker.id, worker.num_workers) if worker else (0, 1)
        of_all_ranks = self.batch_size * self.world_size
        epoch, _, _ = self.stream[self.first * of_all_ranks]
        for number in count(self.first + place, step):
            if self.stream[number * of_all_ranks][0] != epoch:
                return
            start = number * of_all_ranks + self.rank * self.batch_size
            taken = [self.stream[start + n][1:] for n in range(self.batch_size)]
            yield self.make(taken, number)


class StreamLoader:
    """Iterates over one epoch, from the batch at which the counter stands, as `BatchStream` does.

    Not a DataLoader, so Lightning leaves it alone, but one makes the batches where there are
    workers. Workers are started for each epoch and read the text from its beginning; from the
    second epoch on twice, since they first have to find out how long one is.

    Args:
        num_workers: processes that read and tokenise; 0 does it in this one.
        trainer: which asks for a batch ahead, and may be stopped within one: then `begun`, which
            its data module sets, counts rather than what was handed out.
    """

    def __init__(
        self, batches: StreamBatches, num_workers: int = 0, trainer: Trainer | None = None
    ) -> None:
        self.batches, self.num_workers, self.trainer = batches, num_workers, trainer
        self.next_batch = self.begun = 0

    def __iter__(self) -> Iterator[Any]:
        self.batches.first = self.next_batch
        loader = DataLoader(
            self.batches, batch_size=None, num_workers=self.num_workers, collate_fn=_as_it_is
        )
        for batch in loader:
            self.next_batch += 1  # before the yield: a state after this batch starts at the next
            yield batch

    def state_dict(self) -> dict[str, int]:
        if self.trainer is None:
            return {"next_batch": self.next_batch}
        return {"next_batch": self.begun - unfinished_batches(self.trainer)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next_batch = self.begun = state["next_batch"]


def _as_it_is(batch: Any) -> Any:
    return batch
