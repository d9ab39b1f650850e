"""Base class of the data sets: prompt/answer pairs, split by prompt."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from unlearning.data.hyperparameters import save_plain_hyperparameters
from unlearning.data.numbered import numbered
from unlearning.data.overlap import drop_duplicates
from unlearning.data.records.cells import checked_text, looks_like_list
from unlearning.data.records.source import fingerprint
from unlearning.data.split import SPLITS, Split, checked_fractions, first_answers, split_by_prompt
from unlearning.data.stored_examples import store
from unlearning.data.template import PromptTemplate, Template
from unlearning.errors import ConfigError
from unlearning.ranges import Count, Seed, Share
from unlearning.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class ExampleSettings(TypedDict, total=False):
    """Arguments that every data set passes on to `ExampleDataModule`."""

    fractions: Sequence[Share]
    seed: Seed
    tokenizer: PreTrainedTokenizerBase | None
    template: Template | None
    batch_size: Count
    max_length: Count
    cache_dir: str | None
    skip_empty: bool
    train_prompts: Count | None
    answers_per_prompt: Count | None


class ExampleDataModule(LightningDataModule, ABC):
    """Base class of data sets of prompt/answer pairs from one source, in three splits.

    A subclass implements `read`, from records to Examples. Usable alone: with a tokenizer the
    loaders yield `Batch`, all answers in the role `train` (plain language modelling); without one
    they yield lists of `Example`.

    Args:
        fractions: train, validation and test shares of the *prompts*. 0.7/0.1/0.2 is what
            arXiv 2405.15152 does with TruthfulQA.
        seed: of the split, and of the order in which `train_dataloader` shuffles.
        max_length: tokens of prompt and answer together; the answer is cut, never the prompt.
        cache_dir: where tokenised examples are kept, and on whose disk the text lies while it is
            used (as many bytes as the source's texts); None takes the temporary folder for both.
        skip_empty: drop rows with an empty answer, counted and logged, instead of refusing them.
        train_prompts: so many prompts of the training split at most, for a large source and little
            time. The others are in no split: neither seen nor held out.
        answers_per_prompt: so many answers to each prompt at most, in every split.

    Raises:
        ConfigError: fractions that are no shares of 1, or a train share of 0.
    """

    source: str = ""  # what errors name, where there is one
    has_answers = True  # False: prompts alone, which can be asked and not trained on

    def __init__(
        self,
        fractions: Sequence[Share] = (0.7, 0.1, 0.2),
        seed: Seed = 0,
        tokenizer: PreTrainedTokenizerBase | None = None,
        template: Template | None = None,
        batch_size: Count = 8,
        max_length: Count = 512,
        cache_dir: str | None = None,
        skip_empty: bool = False,
        train_prompts: Count | None = None,
        answers_per_prompt: Count | None = None,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        self.fractions = checked_fractions(fractions)
        self.seed = seed
        self.tokenizer = tokenizer
        self.template = template if template is not None else PromptTemplate()
        self.batch_size = batch_size
        self.max_length = max_length
        self.cache_dir = cache_dir
        self.skip_empty = skip_empty
        self.train_prompts, self.answers_per_prompt = train_prompts, answers_per_prompt
        self.num_empty = 0
        self.num_duplicates = 0
        self.num_listlike = self.num_none = 0  # answers that a table's writer may have made
        self._splits: Mapping[Split, Sequence[Example]] | None = None

    @abstractmethod
    def read(self) -> Iterable[Example]:
        """Yields all examples of the source, in its order. Called once; a generator, since each
        example is written to a file and none is held in memory."""

    def check(self) -> None:
        """Checks the inputs without loading them; `validate=true` calls it."""
        return None

    def example(self, prompt: Any, response: Any, *, row: int, column: str) -> Iterator[Example]:
        """Yields the Example of one record; none where its answer is empty and may be skipped.

        Args:
            row: number of the record in its source, from 1, a header not counted.
            column: where the answer stands.
        """
        in_row = f"{self.source or type(self).__name__}, row {row}"
        where = f"{in_row}, column {column!r}"
        prompt_text = checked_text(prompt, in_row, "prompt")
        text = checked_text(response, where, "answer")
        if not prompt_text:
            raise ConfigError(
                f"{in_row}: the prompt is empty{_missing(prompt)}. Remove the row or complete it."
            )
        if text:
            self.num_listlike += looks_like_list(text)
            self.num_none += text == "None"
            yield Example(prompt_text, text)
        elif self.skip_empty:
            self.num_empty += 1
        else:
            raise ConfigError(
                f"{where}: the answer is empty{_missing(response)}, and an empty answer has no "
                "loss. Complete it, remove it, or set skip_empty=true (of this data set, for "
                "example +data.forget.skip_empty=true) to leave out, and count, all such rows."
            )

    def split(self, examples: Sequence[Example]) -> Mapping[Split, Sequence[Example]]:
        """Splits the examples by prompt, with this module's fractions and seed.

        Raises:
            ConfigError: nothing is left for training.
        """
        splits = split_by_prompt(examples, self.fractions, self.seed)
        if not splits["train"]:
            name = f"{type(self).__name__} ({self.source})" if self.source else type(self).__name__
            empty = f" {self.num_empty} empty answers were left out." if self.num_empty else ""
            raise ConfigError(
                f"{name}: the train split is empty; {len(examples)} examples were split by "
                f"{self.fractions}.{empty} Add records or raise the first fraction."
            )
        return splits

    def setup(self, stage: str | None = None) -> None:
        if self._splits is not None:
            return
        self.num_empty = self.num_listlike = self.num_none = 0
        examples = store(self._read_checked(), self.cache_dir)
        distinct = drop_duplicates(examples)
        self.num_duplicates = len(examples) - len(distinct)
        self._splits = {
            name: first_answers(
                part, self.train_prompts if name == "train" else None, self.answers_per_prompt
            )
            for name, part in self.split(distinct).items()
        }
        log.info(
            "%s: %s examples (%d duplicates and %d empty answers left out)",
            type(self).__name__,
            ", ".join(f"{len(part)} {name}" for name, part in self._splits.items()),
            self.num_duplicates,
            self.num_empty,
        )
        for count, what in (
            (self.num_listlike, "look like a list or mapping that was written as text"),
            (self.num_none, "are the word None, which Python writes for a missing value"),
        ):
            if count:
                log.warning(
                    "%s: %d answers %s; they are taken as they stand.",
                    self.source or type(self).__name__, count, what,
                )  # fmt: skip

    def _read_checked(self) -> Iterator[Example]:
        for number, example in enumerate(self.read(), start=1):
            answered = example.response.strip() or not self.has_answers
            if not (example.prompt.strip() and answered):
                raise ConfigError(
                    f"{type(self).__name__}: example {number} has an empty prompt or answer."
                )
            yield example

    def examples(self, split: Split) -> Sequence[Example]:
        """Returns the examples of one split; all answers to a prompt stand together.

        They are read from a file one by one, and may be more than memory holds; where a list is
        needed, take `list(...)` of them or of a slice.
        """
        if split not in SPLITS:
            raise ConfigError(f"Unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
        self.setup()
        assert self._splits is not None
        found = self._splits[split]
        return list(found) if isinstance(found, list) else found  # a list is the caller's own

    def fingerprint(self) -> str:
        """Returns a sha256 of all splits: equal exactly where a run would see the same data."""
        parts = "".join(fingerprint(self.examples(name)) for name in SPLITS)
        return hashlib.sha256(parts.encode()).hexdigest()

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _loader(self, split: Split, shuffle: bool = False) -> DataLoader[Any]:
        items: Any = self.examples(split)
        collate: Callable[[list[Any]], Any] = list
        if self.tokenizer is not None:
            items, collate = numbered(
                items, self.tokenizer, self.template, self.max_length, self.cache_dir
            )
        generator = torch.Generator().manual_seed(self.seed) if shuffle else None
        return DataLoader(
            items,  # a sequence is a map-style data set
            batch_size=self.batch_size,
            shuffle=shuffle,
            generator=generator,
            collate_fn=collate,
        )


def _missing(value: Any) -> str:
    """Quotes a cell that holds a word for "no value", for errors; "" for an empty one."""
    return f" ({value.strip()!r}, as written for a missing value)" if (value or "").strip() else ""
