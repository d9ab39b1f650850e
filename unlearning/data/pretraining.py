"""Data to train a base model on from scratch: pairs and plain text, in length-grouped batches."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from lightning import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader
from transformers import PreTrainedTokenizerBase

from unlearning.data.examples import ExampleDataModule
from unlearning.data.layout import padded_batch
from unlearning.data.records.source import fingerprint
from unlearning.data.template import PromptTemplate
from unlearning.data.text import read_text, text_files, text_windows
from unlearning.data.token_store import token_counts
from unlearning.data.tokenize import tokenize_examples
from unlearning.ranges import BelowOne, Count, Seed
from unlearning.types import Batch, Example, TokenizedExample


class PretrainingDataModule(LightningDataModule):
    """Joins the training splits of several data sets and windows of plain text.

    Args:
        examples: data sets whose training split the base model is trained on.
        text: a .txt file or a folder of them, or None.
        window: tokens of a text window.
        held_out_fraction: share of the text windows kept for validation.
        batch_tokens: answer and prompt tokens of a batch, padding included.
        seed: of the order.
    """

    def __init__(
        self,
        examples: Sequence[ExampleDataModule] = (),
        text: str | None = None,
        window: Count = 128,
        held_out_fraction: BelowOne = 0.02,
        batch_tokens: Count = 2048,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.sources, self.text, self.window = list(examples), text, window
        self.held_out_fraction, self.batch_tokens, self.seed = held_out_fraction, batch_tokens, seed
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.template = PromptTemplate()
        self.cache_dir: str | Path | None = None

    def check(self) -> None:
        """Checks the inputs without loading them."""
        for source in self.sources:
            source.check()
        if self.text is not None:
            text_files(self.text)

    def examples(self) -> Iterator[Example]:
        """Returns all prompt/answer pairs."""
        return chain.from_iterable(source.examples("train") for source in self.sources)

    def passages(self) -> list[str]:
        """Returns all plain text, one string per file."""
        return [] if self.text is None else [read_text(path) for path in text_files(self.text)]

    def texts(self) -> Iterator[str]:
        """Returns everything as text, to train a tokenizer on."""
        for example in self.examples():
            yield self.template.prompt(example) + self.template.answer(example.response)
        for passage in self.passages():
            yield from passage.split("\n\n")

    def fingerprint(self) -> str:
        passages = (Example("", passage) for passage in self.passages())
        return fingerprint(chain(self.examples(), passages))

    def setup(self, stage: str | None = None) -> None:
        assert self.tokenizer is not None, "set .tokenizer first"
        parts = [
            tokenize_examples(
                source.examples("train"), self.tokenizer, self.template, self.window, self.cache_dir
            ).sequences
            for source in self.sources
        ]
        windows = [
            w for text in self.passages() for w in text_windows(text, self.tokenizer, self.window)
        ]
        held_out = round(len(windows) * self.held_out_fraction)
        random.Random(self.seed).shuffle(windows)
        self.validation = windows[:held_out]
        self.train = _joined([*parts, windows[held_out:]])

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train, self.seed)

    def val_dataloader(self) -> DataLoader[Batch] | list[Batch]:
        return self._loader(_joined([self.validation]), None) if self.validation else []

    def _loader(self, data: ConcatDataset[TokenizedExample], seed: int | None) -> DataLoader[Batch]:
        sequences = (data[number] for number in range(len(data)))
        batches = LengthBatches(sequences, self.batch_tokens, seed)
        assert self.tokenizer is not None
        pad = self.tokenizer.pad_token_id or 0

        def collate(items: list[TokenizedExample]) -> Batch:
            return padded_batch([("train", enumerate(items))], pad)

        return DataLoader(data, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]


def _joined(parts: list[Sequence[TokenizedExample]]) -> ConcatDataset[TokenizedExample]:
    return ConcatDataset(parts)  # type: ignore[arg-type]  # sequences are map-style data sets


class LengthBatches:
    """Batch sampler: groups sequences of similar length into batches of about as many tokens each.

    Sorting by length within shuffled pools saves most of the padding and keeps batches mixed.

    Args:
        sequences: what is batched.
        batch_tokens: positions of a batch, padding included.
        seed: of the order, another one every epoch; None keeps one fixed order.
        pool: sequences that are sorted together.
    """

    def __init__(
        self,
        sequences: Iterable[TokenizedExample],
        batch_tokens: int,
        seed: int | None,
        pool: int = 2048,
    ) -> None:
        prompts, responses = token_counts(sequences)
        self.lengths = (prompts + responses - 1).tolist()
        self.batch_tokens, self.seed, self.pool, self.epoch = batch_tokens, seed, pool, 0

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches(self.epoch)
        self.epoch += 1
        return iter(batches)

    def __len__(self) -> int:
        return len(self._batches(self.epoch))

    def _batches(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        generator = random.Random(f"{self.seed}/{epoch}")
        if self.seed is not None:
            generator.shuffle(order)
        batches: list[list[int]] = []
        for start in range(0, len(order), self.pool):
            batch: list[int] = []
            for number in sorted(order[start : start + self.pool], key=lambda n: -self.lengths[n]):
                if batch and (len(batch) + 1) * self.lengths[batch[0]] > self.batch_tokens:
                    batches.append(batch)
                    batch = []
                batch.append(number)
            batches.append(batch)
        if self.seed is not None:
            generator.shuffle(batches)
        return batches
