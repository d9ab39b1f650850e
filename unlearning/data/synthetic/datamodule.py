"""The embedded data as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Unpack, get_args

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.split import Split, split_by_prompt
from unlearning.data.synthetic import (
    everyday_examples,
    harmful_examples,
    pretraining_examples,
    related_examples,
)
from unlearning.errors import ConfigError
from unlearning.types import Example

Part = Literal["harmful", "everyday", "related", "pretraining"]

HARMFUL_VALIDATION_SHARE = 0.05
"""Of the harmful training prompts; the held-out ones are the test split, whatever the fractions."""

_READERS: dict[Part, Callable[[], list[Example]]] = {
    "harmful": harmful_examples,
    "everyday": everyday_examples,
    "related": related_examples,
    "pretraining": pretraining_examples,
}


class SyntheticDataModule(ExampleDataModule):
    """One part of the embedded data; needs no file and no network.

    ============= ============================================================================
    `harmful`     train: what the base model learnt (5 % of it go to validation); test: held out
    `everyday`    split by prompt in the given fractions; the base model knows all three splits
    `related`     all of it in test, since nothing is trained on it after the base model
    `pretraining` all of it in train
    ============= ============================================================================

    Args:
        part: which of the four.
        settings: see `ExampleDataModule`; `fractions` matter for `everyday` only.

    Raises:
        ConfigError: unknown part.
    """

    def __init__(self, part: Part, **settings: Unpack[ExampleSettings]) -> None:
        super().__init__(**settings)
        if part not in get_args(Part):
            raise ConfigError(
                f"part={part!r} is no part of the embedded data; expected one of "
                f"{', '.join(get_args(Part))}."
            )
        self.part = part
        self.source = f"embedded:{part}"

    def read(self) -> list[Example]:
        return _READERS[self.part]()

    def split(self, examples: Sequence[Example]) -> Mapping[Split, Sequence[Example]]:
        if self.part == "everyday":
            return super().split(examples)
        if self.part == "harmful":
            shares = (1 - HARMFUL_VALIDATION_SHARE, HARMFUL_VALIDATION_SHARE, 0.0)
            seen = split_by_prompt(examples, shares, self.seed)
            return {**seen, "test": harmful_examples("heldout")}
        home: Split = "test" if self.part == "related" else "train"
        nothing: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
        return {**nothing, home: list(examples)}
