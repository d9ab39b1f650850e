"""Several data sets as one, such as questions beside the beginnings of passages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from unlearning.data.example_stream import StreamedExamples
from unlearning.data.examples import ExampleDataModule
from unlearning.data.overlap import check_disjoint, drop_duplicates
from unlearning.data.records.source import is_hub_id
from unlearning.data.split import SPLITS
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.ranges import Seed
from unlearning.types import Example


class JoinedDataModule(ExampleDataModule):
    """Joins the splits of several data sets, each with the fractions of its own.

    How much of each there is, is up to it: `train_prompts` takes so many training prompts, and
    fractions (1, 0, 0) leave nothing of it among the held-out ones.

    Args:
        sets: the data sets, in this order.
        seed: of the order in which `train_dataloader` shuffles.

    Raises:
        ConfigError: there is none, or one is streamed; from `setup`, a text is held out in one set
            and trained on in another.
    """

    def __init__(self, sets: Sequence[ExampleDataModule], seed: Seed = 0) -> None:
        super().__init__(seed=seed)
        self.sets = list(sets)
        if not self.sets:
            raise ConfigError("JoinedDataModule: sets is empty. Give at least one data set.")
        if any(isinstance(each, StreamedExamples) and each.streaming for each in self.sets):
            raise ConfigError(
                "JoinedDataModule: a streamed data set is read as the training goes on, and cannot "
                "be joined. Set its streaming=false, and train_prompts to take a part."
            )
        self.has_answers = all(each.has_answers for each in self.sets)
        hub = (each.source for each in self.sets if each.source and is_hub_id(each.source))
        self.source = next(hub, "")

    def check(self) -> None:
        for each in self.sets:
            each.check()

    def read(self) -> Iterator[Example]:
        for split in SPLITS:
            yield from chain.from_iterable(each.examples(split) for each in self.sets)

    def setup(self, stage: str | None = None) -> None:
        if self._splits is not None:
            return
        found = {
            split: store(chain.from_iterable(each.examples(split) for each in self.sets))
            for split in SPLITS
        }
        for split in SPLITS[1:]:
            check_disjoint(found[split], found["train"], names=(split, "training"))
        self._splits = {split: drop_duplicates(examples) for split, examples in found.items()}
