"""Jigsaw toxic comments, the training data of the harm classifier in arXiv 2405.15152."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from unlearning.classifier.batches import Comment, CommentCollator, LengthGroupedSampler
from unlearning.classifier.pretrained import load_tokenizer
from unlearning.classifier.split import PARTS, balance_classes, split_comments
from unlearning.data.records.cells import checked_text, parse_flag, shortened
from unlearning.data.records.source import is_hub_id, selected_records
from unlearning.data.records.where import RowFilter
from unlearning.errors import ConfigError
from unlearning.ranges import Count, Names, Seed, Share, Whole

JIGSAW_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")

LabelledText = tuple[str, tuple[float, ...]]


class JigsawDataModule(LightningDataModule):
    """Labelled comments as a LightningDataModule, with six labels, or one: `labels=("toxic",)`.

    Paper settings (arXiv 2405.15152): six labels, batch 32, at most 128 tokens. The
    0.8/0.1/0.1 split is ours: drawn by text, with the share of harmful comments kept.
    A subclass replaces `read` to bring its own comments.

    Args:
        source: local csv, jsonl or parquet file, or a hub id.
        tokenizer: instance, hub id or path. It may be set later (`datamodule.tokenizer = ...`), as
            a tokenizer trained on `train_texts()` must be.
        labels: columns of labels; None for the six of the original file.
        fractions: shares of training, validation and test.
        max_rows: use about this many comments, both classes in proportion.
        balance: train on as many harmless as harmful comments, by leaving out some of the larger
            class. About one Jigsaw comment in ten is toxic. Validation and test stay as they are,
            so that their scores are those of the real mixture.
        length_grouped: batches of similar lengths; on a CPU this saves most of the padding.
        split: of a hub data set.
        config_name: of a hub data set.
        revision: of a hub data set.
        data_files: of a hub data set.
        where: which records to take; see `unlearning.data.records.where.RowFilter`.

    Raises:
        ConfigError: a setting is out of its range, or (on reading) a label is not 0 or 1, a text
            is empty or only one class is present.
    """

    def __init__(
        self,
        source: str,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        labels: Names | None = None,
        text_column: str = "comment_text",
        fractions: Sequence[Share] = (0.8, 0.1, 0.1),
        batch_size: Count = 32,
        max_length: Count = 128,
        max_rows: Count | None = None,
        balance: bool = False,
        length_grouped: bool = True,
        seed: Seed = 0,
        num_workers: Whole = 0,
        split: str = "train",
        config_name: str | None = None,
        revision: str | None = None,
        data_files: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.tokenizer = tokenizer
        self.labels = JIGSAW_LABELS if labels is None else tuple(labels)
        self.text_column = text_column
        self.fractions = tuple(float(fraction) for fraction in fractions)
        self.batch_size = batch_size
        self.max_length = max_length
        self.max_rows = max_rows
        self.balance = balance
        self.length_grouped = length_grouped
        self.seed = seed
        self.num_workers = num_workers
        self.split = split
        self.config_name = config_name
        self.revision = revision
        self.data_files = data_files
        self.where = where
        self._parts: dict[str, list[Comment]] = {}
        self._check_settings()

    def _check_settings(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"labels={self.labels} must name one or more different columns")
        RowFilter(self.where, self.source)
        shares = self.fractions
        if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                f"fractions={shares} must be three positive shares (train, validation, test) that "
                "sum to 1, for example (0.8, 0.1, 0.1)"
            )
        for name in ("batch_size", "max_length", "max_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")

    def read(self) -> list[LabelledText]:
        """Reads all comments with their labels (0.0 or 1.0, in the order of `labels`)."""
        records = selected_records(
            self.source,
            self.where,
            columns=(self.text_column, *self.labels),
            split=self.split,
            config_name=self.config_name,
            revision=self.revision,
            data_files=self.data_files,
        )
        return [self._parse(number, record) for number, record in records]

    def _parse(self, number: int, record: Mapping[str, Any]) -> LabelledText:
        where = f"{self.source}, record {number}"
        cell = record[self.text_column]
        if not checked_text(cell, f"{where}, column {self.text_column!r}", "comment"):
            raise ConfigError(
                f"{where} has no text in {self.text_column!r} ({cell!r}); remove the record"
            )
        text = str(cell)
        values = []
        for label in self.labels:
            try:
                values.append(float(parse_flag(record[label], where)))
            except ConfigError as error:
                raise ConfigError(
                    f"{where} has {label}={shortened(record[label])}; expected 0 or 1 (in Jigsaw's "
                    "test file -1 means 'not scored': remove those records)"
                ) from error
        return text, tuple(values)

    def check(self) -> None:
        """Reads and splits local comments; loads no tokenizer, no model and nothing from a hub.

        Raises:
            ConfigError: the comments cannot be trained on.
        """
        if not is_hub_id(self.source):
            self.setup()

    def prepare_data(self) -> None:
        self.setup()  # a hub data set is downloaded by one process, before all of them open it

    def setup(self, stage: str | None = None) -> None:
        if self._parts:
            return
        comments = [Comment(index, *row) for index, row in enumerate(self.read())]
        parts = split_comments(comments, self.fractions, self.seed, self.max_rows)
        if self.balance:
            parts["train"] = balance_classes(parts["train"])
        self._parts = parts

    def comments(self, part: str) -> list[Comment]:
        """Returns the comments of `train`, `validation` or `test`."""
        if part not in PARTS:
            raise ConfigError(f"part={part!r} must be one of {PARTS}")
        self.setup()
        return self._parts[part]

    def train_texts(self) -> list[str]:
        """Returns the texts that a tokenizer may be trained on."""
        return [comment.text for comment in self.comments("train")]

    def fingerprint(self) -> str:
        """Returns a hash of the comments of each part and the settings that decide what is
        learned."""
        settings = [self.labels, self.max_length, self.batch_size, self.length_grouped, self.seed]
        parts = {part: [(c.text, c.labels) for c in self.comments(part)] for part in PARTS}
        content = json.dumps([settings, parts], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _loader(self, part: str) -> DataLoader[dict[str, Tensor]]:
        comments = self.comments(part)
        if isinstance(self.tokenizer, str):
            self.tokenizer = load_tokenizer(self.tokenizer)
        if self.tokenizer is None:
            raise ConfigError("the data module has no tokenizer; set `datamodule.tokenizer` first")
        lengths = [len(comment.text) for comment in comments]
        sampler = None
        if part == "train":
            window = 50 if self.length_grouped else 0
            sampler = LengthGroupedSampler(lengths, self.batch_size, self.seed, window)
        elif self.length_grouped:  # scores do not depend on the order
            comments = sorted(comments, key=lambda comment: len(comment.text))
        return DataLoader(
            comments,  # type: ignore[arg-type]  # a list is a map-style data set
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=CommentCollator(self.tokenizer, self.max_length),
        )

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("test")
