"""Tokenised examples as a map-style data set, for a plain DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from unlearning.data.layout import padded_batch
from unlearning.data.template import Template
from unlearning.data.tokenize import tokenize_examples
from unlearning.types import Batch, Example, TokenizedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Numbered:
    """Map-style data set of tokenised examples with their numbers."""

    sequences: Sequence[TokenizedExample]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, number: int) -> tuple[int, TokenizedExample]:
        return number, self.sequences[number]


def numbered(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
    cache_dir: str | None = None,
) -> tuple[Numbered, Callable[[list[Any]], Batch]]:
    """Tokenises examples; returns them as a data set, and the function that collates its items."""
    tokenized = tokenize_examples(examples, tokenizer, template, max_length, cache_dir=cache_dir)
    # Padding is masked, so that any token does where the tokenizer names none.
    pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Numbered(tokenized.sequences), partial(_collate, pad_token_id=pad_token_id)


def _collate(items: list[tuple[int, TokenizedExample]], pad_token_id: int) -> Batch:
    return padded_batch([("train", items)], pad_token_id)
