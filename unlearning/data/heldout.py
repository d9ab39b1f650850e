"""Batches of a held-out split, in a fixed order, with the roles that training has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

from unlearning.data.alternates import Alternates
from unlearning.data.examples import ExampleDataModule
from unlearning.data.layout import Answer, Tree
from unlearning.data.mismatch import MismatchSampler
from unlearning.errors import ConfigError
from unlearning.types import Batch, Example, TokenizedExample

HeldOut = Literal["validation", "test"]


class TrainingData(Protocol):
    """What held-out batches take over from the data of the training, an `UnlearningDataModule`."""

    forget: Any
    retain: Any
    mismatch_from: Any
    sequences: Any
    batch_size: int
    mismatch_per_prompt: int
    seed: int

    def setup(self, stage: str | None = None) -> None: ...

    def world(self) -> tuple[int, int, int]: ...

    def tokenize(self, name: str, examples: Sequence[Example]) -> Sequence[TokenizedExample]: ...

    def make_alternates(self, forget: Sequence[Example], name: str) -> Alternates | None: ...

    def forget_tree(self, forget: TokenizedExample, number: int, others: Any) -> Tree: ...

    def lay_out(self, trees: Sequence[Tree], number: int) -> Batch: ...


class HeldOutBatches:
    """Iterates once over every forget example of a held-out split, with mismatch answers and retain
    pairs from the same split of their data sets.

    A term's mean over its sequences is then its mean over the split. Where there are fewer retain
    pairs than batches, they are repeated. Batches are sharded over ranks.

    Args:
        data: whose settings and data sets these are.
        split: `validation` or `test`.

    Raises:
        ConfigError: a data set is a plain list, or its split is empty.
    """

    def __init__(self, data: TrainingData, split: HeldOut) -> None:
        data.setup()
        self.data = data
        forget, retain = (_examples(data, name, split) for name in ("forget", "retain"))
        self.forget, self.retain = (
            data.tokenize(f"{split} {name}", part)  # training's own are counted apart
            for name, part in (("forget", forget), ("retain", retain))
        )
        pool, self.pool = retain, self.retain
        if data.mismatch_from is not None:
            pool = _examples(data, "mismatch_from", split)
            self.pool = data.tokenize(f"{split} mismatch", pool)
        # Not `sampler`: Lightning would take this for a DataLoader.
        self.mismatches = MismatchSampler(pool, data.mismatch_per_prompt, data.seed)
        self.alternates = data.make_alternates(forget, f"{split} alternate")
        # Numbers go on behind those of the training split.
        self.first = {role: len(items) for role, items in data.sequences.items()}
        self.rank, self.world, _ = data.world()
        self.batches = -(-len(forget) // data.batch_size)

    def __len__(self) -> int:
        return len(range(self.rank, self.batches, self.world))

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.rank, self.batches, self.world):
            trees = [*self._forget_trees(number), *self._retain_trees(number)]
            yield self.data.lay_out(trees, number)

    def _forget_trees(self, number: int) -> Iterator[Tree]:
        first, size = number * self.data.batch_size, self.data.batch_size
        for n in range(first, min(first + size, len(self.forget))):
            mismatches = [(m, self.pool[m]) for m in self.mismatches.draw(n, 0)]
            alternates = [] if self.alternates is None else self.alternates.draw(n, 0)
            others = {"alternate": alternates, "mismatch": mismatches}
            yield self.data.forget_tree(self.forget[n], self.first["forget"] + n, others)

    def _retain_trees(self, number: int) -> Iterator[Tree]:
        pairs = max(len(self.retain), self.batches)
        start, end = (n * pairs // self.batches for n in (number, number + 1))
        for n in (n % len(self.retain) for n in range(start, end)):
            answer = Answer("retain", self.first.get("retain", 0) + n, self.retain[n].response_ids)
            yield Tree(self.retain[n].prompt_ids, (answer,))


def _examples(data: TrainingData, name: str, split: HeldOut) -> Sequence[Example]:
    source = getattr(data, name)
    if not isinstance(source, ExampleDataModule):
        raise ConfigError(
            f"The {name} set is a list of Examples, which has no {split} split. Give a DataModule."
        )
    found = source.examples(split)
    if not found:
        raise ConfigError(f"The {name} set's {split} split is empty. Change its fractions.")
    return found
