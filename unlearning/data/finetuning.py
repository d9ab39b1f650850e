"""Training batches for fine-tuning, on prompt/answer pairs or windows of running text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeGuard, cast

from transformers import PreTrainedTokenizerBase

from unlearning.data.examples import ExampleDataModule
from unlearning.data.layout import Answer, Tree, make_batch, pack
from unlearning.data.split import Split
from unlearning.data.stream import BatchStreamDataModule, ShuffledOrder
from unlearning.data.template import PromptTemplate, Template
from unlearning.data.tokenize import Tokenized, tokenize_examples
from unlearning.errors import ConfigError
from unlearning.types import Batch, Example, TokenizedExample


class WindowSource(Protocol):
    """Protocol of running text that can be cut into windows, such as `LOTRDataModule`."""

    def windows(
        self, tokenizer: PreTrainedTokenizerBase, context_length: int, split: Split = "train"
    ) -> list[TokenizedExample]: ...


FinetuningSource = Sequence[Example] | Sequence[TokenizedExample] | ExampleDataModule | WindowSource


class FinetuningDataModule(BatchStreamDataModule):
    """Serves every example once an epoch, in an order that is a function of (seed, epoch).

    The loss is on the tokens of the answer: of a pair those of its response and the end token, of a
    window all but its start token. An epoch is split evenly into as few optimizer steps as hold it,
    and a step into the batches of its ranks, so that none is left nearly empty. An example comes
    twice only where a step has more batches than examples are left for it.

    Args:
        data: pairs (a list of `Example` or an `ExampleDataModule`, whose training split is taken),
            running text that cuts itself into windows, or tokenised examples.
        tokenizer: of the model, or its name or path.
        context_length: tokens of an example at most: of a window with its start token
            (arXiv 2405.15152: 2048), of a pair with its prompt. A longer answer is cut.
        batch_size: examples in a batch of one rank, at most.
        packing: short examples share a row, kept apart by a mask; off for models that take no such
            mask. Loss and gradient are the same.
        seed: of the order.
        template: of pairs; None takes the DataModule's own, or the default one for a list.
        cache_dir: where tokenised pairs are kept.

    Attributes:
        examples: the tokenised examples, after `setup`.
        truncated: how many answers were cut to fit.

    Raises:
        ConfigError: from `setup`, for data that cannot be trained on.
    """

    def __init__(
        self,
        data: FinetuningSource,
        tokenizer: PreTrainedTokenizerBase | str,
        context_length: int = 2048,
        batch_size: int = 2,
        packing: bool = True,
        seed: int = 0,
        template: Template | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        super().__init__(tokenizer)
        if context_length < 2 or batch_size < 1 or seed < 0:
            raise ConfigError(
                f"context_length={context_length} must be at least 2, batch_size={batch_size} at "
                f"least 1 and seed={seed} at least 0."
            )
        self.data, self.template, self.cache_dir = data, template, cache_dir
        self.context_length, self.batch_size = context_length, batch_size
        self.packing, self.seed = packing, seed
        self.examples: Sequence[TokenizedExample] = []
        self.truncated = 0

    def setup(self, stage: str | None = None) -> None:
        """Tokenises and checks the data, once."""
        if self.examples:
            return
        tokenized = tokenize_source(
            self.data, self.tokenizer, self.context_length, self.template,
            cache_dir=self.cache_dir,
        )  # fmt: skip
        check_trainable(tokenized.sequences, self.context_length)
        self.order = ShuffledOrder(len(tokenized.sequences), "finetuning", self.seed)
        self.examples, self.truncated = tokenized.sequences, tokenized.truncated

    def batches_per_epoch(self) -> int:
        _, world, accumulated = self.world()
        return -(-len(self.examples) // (self.batch_size * world * accumulated)) * accumulated

    def batch_at(self, number: int) -> Batch:
        rank, world, accumulated = self.world()
        epoch, place = divmod(number, self.batches_per_epoch())
        step, turn = divmod(place, accumulated)
        steps, batches = self.batches_per_epoch() // accumulated, world * accumulated
        first, last = _share(len(self.examples), step, steps)
        start, end = _share(max(last - first, batches), turn * world + rank, batches)
        offsets = ((first + n) % len(self.examples) for n in range(start, end))
        numbers = [self.order[epoch * len(self.examples) + n][1] for n in offsets]
        return self._batch(numbers, number)

    def _batch(self, numbers: list[int], index: int) -> Batch:
        examples = [(n, self.examples[n]) for n in numbers]
        trees = [Tree(e.prompt_ids, (Answer("train", n, e.response_ids),)) for n, e in examples]
        # A mask between examples is worth its memory only where it saves a row.
        shared = len(pack(trees, max(tree.length for tree in trees))) < len(trees)
        layout = "tree" if self.packing and shared else "padded"
        return make_batch(trees, layout, self.pad_token_id, index)  # type: ignore[arg-type]


def tokenize_source(
    source: FinetuningSource,
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    template: Template | None = None,
    split: Split = "train",
    cache_dir: str | Path | None = None,
) -> Tokenized:
    """Tokenises one split of a data set, see `FinetuningDataModule`.

    Raises:
        ConfigError: a prompt alone fills the context, or an answer has no token.
    """
    if has_windows(source):
        return Tokenized(source.windows(tokenizer, context_length, split), truncated=0)
    if isinstance(source, ExampleDataModule):
        template = template or source.template
        source = source.examples(split)
    examples = cast(Sequence[Example] | Sequence[TokenizedExample], source)
    if len(examples) and isinstance(examples[0], Example):
        pairs = cast(Sequence[Example], examples)
        return tokenize_examples(
            pairs, tokenizer, template or PromptTemplate(), context_length, cache_dir
        )
    return Tokenized(cast(Sequence[TokenizedExample], examples), truncated=0)


def has_windows(source: object) -> TypeGuard[WindowSource]:
    """Whether a data set is running text that can be cut into windows."""
    return callable(getattr(source, "windows", None))


def check_trainable(examples: Sequence[TokenizedExample], context_length: int) -> None:
    """Raises a ConfigError for data that cannot be trained on.

    Raises:
        ConfigError: no example, an empty one, or one that is too long.
    """
    if not examples:
        raise ConfigError("There is no example to fine-tune on: the training split is empty.")
    for number, example in enumerate(examples):
        if not example.prompt_ids or not example.response_ids:
            raise ConfigError(
                f"Example {number} lacks its prompt (a window's start token) or its answer. Leave "
                "out empty texts."
            )
        length = len(example.prompt_ids) + len(example.response_ids)
        if length > context_length:
            raise ConfigError(
                f"Example {number} has {length} tokens, above context_length={context_length}. Cut "
                "the text into shorter windows, or raise context_length."
            )


def _share(total: int, number: int, parts: int) -> tuple[int, int]:
    """Returns begin and end of part `number` of a total that is cut as evenly as possible."""
    return number * total // parts, (number + 1) * total // parts
