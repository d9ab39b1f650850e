"""Joins a forget set and a retain set to one stream of training batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from unlearning.data.alternates import Alternates
from unlearning.data.example_stream import StreamedExamples
from unlearning.data.examples import ExampleDataModule
from unlearning.data.heldout import HeldOut, HeldOutBatches
from unlearning.data.layout import Answer, Layout, Tree, make_batch
from unlearning.data.parts import RETAIN_APART, Forwards
from unlearning.data.records.source import fingerprint
from unlearning.data.retained import listed, streamed
from unlearning.data.split import SPLITS
from unlearning.data.stored_examples import StoredExamples
from unlearning.data.stream import BatchStreamDataModule, ShuffledOrder
from unlearning.data.template import PromptTemplate, Template
from unlearning.data.tokenize import tokenize_examples
from unlearning.errors import ConfigError
from unlearning.types import Batch, Example, TokenizedExample

ExampleSource = ExampleDataModule | Sequence[Example]


class UnlearningDataModule(BatchStreamDataModule):
    """Pairs each forget prompt with its answer, K mismatch answers and a retain pair.

    Example number n of the endless stream is the same whatever the batch size, the number of ranks
    or gradient accumulation, so 1 x 8 batches, 8 x 1 and 2 ranks x 4 see the same data.

    Args:
        forget: what to forget: a DataModule (its training split) or a list of Examples.
        retain: what to keep, likewise. A streamed data set is read as the stream goes on;
            `sequences` has no "retain" then. Examples of the model's own answers
            (`own_answers(...).examples`) are trained on in the tokens that it generated.
        tokenizer: of the model, or its name or path.
        template: how a prompt is put to the model.
        mismatch_per_prompt: K irrelevant answers for each forget prompt (arXiv 2405.15152: 5).
        batch_size: forget prompts in a batch of one rank (paper: 2).
        retain_batch_size: retain pairs in it; None takes as many as forget prompts (the paper).
        seed: of order and mismatches.
        max_length: tokens of a prompt with one answer; answers are cut to fit, prompts never.
        layout: `tree` rows share a prompt among its answers; `padded` for models without 4-D masks.
        cache_dir: where tokenised data is kept, 4 bytes a token and 16 a pair; None puts it into a
            temporary file.
        alternate: other answers to the forget prompts, for terms on that role: texts that suit
            every prompt (refusals), or Examples of the forget prompts; see `Alternates`.
        alternates_per_prompt: of these, for each forget prompt.
        mismatch_from: the data set whose answers are drawn as mismatch answers, likewise; None
            takes `retain`. One that is streamed cannot be given here.
        validate: the Trainer validates and tests on the splits of these names; without it, hand
            `heldout(split)` to `Trainer.validate`.

    Raises:
        ConfigError: from `setup`, for data that cannot be trained on.
    """

    def __init__(
        self,
        forget: ExampleSource,
        retain: ExampleSource,
        tokenizer: PreTrainedTokenizerBase | str,
        template: Template | None = None,
        mismatch_per_prompt: int = 5,
        batch_size: int = 2,
        retain_batch_size: int | None = None,
        seed: int = 0,
        max_length: int = 512,
        layout: Layout = "tree",
        cache_dir: str | Path | None = None,
        alternate: ExampleSource | Sequence[str] | None = None,
        alternates_per_prompt: int = 1,
        validate: bool = False,
        mismatch_from: ExampleSource | None = None,
    ) -> None:
        super().__init__(tokenizer)
        if min(batch_size, alternates_per_prompt) < 1 or mismatch_per_prompt < 0:
            raise ConfigError(
                f"batch_size={batch_size} and alternates_per_prompt={alternates_per_prompt} must "
                f"be at least 1 and mismatch_per_prompt={mismatch_per_prompt} at least 0."
            )
        if layout not in get_args(Layout) or seed < 0:
            raise ConfigError(
                f"layout={layout!r} must be one of {get_args(Layout)} and seed={seed} at least 0."
            )
        self.forget, self.retain, self.alternate = forget, retain, alternate
        self.alternates_per_prompt, self.validate = alternates_per_prompt, validate
        self.mismatch_from = mismatch_from
        self.template = template or PromptTemplate()
        self.mismatch_per_prompt, self.batch_size, self.seed = mismatch_per_prompt, batch_size, seed
        self.retain_batch_size = batch_size if retain_batch_size is None else retain_batch_size
        if self.retain_batch_size < 1:
            raise ConfigError(f"retain_batch_size={retain_batch_size} must be at least 1, or None.")
        self.max_length, self.layout, self.cache_dir = max_length, layout, cache_dir
        self.forwards: Forwards = RETAIN_APART  # an `UnlearningModule` sets those of its steps
        self.sequences: dict[Literal["forget", "retain"], Sequence[TokenizedExample]] = {}
        self.truncated: dict[str, int] = {}
        self.alternates: Alternates | None = None
        if validate:  # else Lightning would take held-out batches in every training
            self.val_dataloader = partial(self.heldout, "validation")  # type: ignore[method-assign]
            self.test_dataloader = partial(self.heldout, "test")  # type: ignore[method-assign]

    def setup(self, stage: str | None = None) -> None:
        """Reads, checks and tokenises both training splits, once."""
        if self.sequences:
            return
        forget = _training_examples(self.forget)
        self.order = ShuffledOrder(len(forget), "forget", self.seed)
        sequences = self.tokenize("forget", forget)
        pool = None if self.mismatch_from is None else _training_examples(self.mismatch_from)
        if isinstance(self.retain, StreamedExamples) and self.retain.streaming:
            found = streamed(self, forget, self.retain, pool)
        else:
            found = listed(self, forget, _training_examples(self.retain), pool)
        self.pairs, self.mismatches = found.pairs, found.mismatches
        self.fingerprints = {"forget": fingerprint(forget), **found.fingerprints}
        self.sequences = {"forget": sequences}
        if found.sequences is not None:
            self.sequences["retain"] = found.sequences
        self.alternates = self.make_alternates(forget)

    def make_alternates(
        self, forget: Sequence[Example], name: str = "alternate"
    ) -> Alternates | None:
        """Draws alternate answers for these forget examples, where there are any.

        Args:
            name: under which those that are cut are counted.
        """
        if self.alternate is None:
            return None
        answers: Iterable[str | Example] = self.alternate  # type: ignore[assignment]
        if isinstance(self.alternate, ExampleDataModule):
            answers = chain.from_iterable(self.alternate.examples(split) for split in SPLITS)
        tokenize = partial(self.tokenize, name)
        return Alternates(answers, forget, tokenize, self.alternates_per_prompt, self.seed)

    def tokenize(self, name: str, examples: Sequence[Example]) -> Sequence[TokenizedExample]:
        """Tokenises the examples, cut to `max_length`; `truncated[name]` counts those cut."""
        tokenized = tokenize_examples(
            examples, self.tokenizer, self.template, self.max_length, self.cache_dir
        )
        self.truncated[name] = tokenized.truncated
        return tokenized.sequences

    def batches_per_epoch(self) -> int:
        # The last ones are filled from the next epoch's order; nothing is dropped.
        _, world, accumulated = self.world()
        per_step = self.batch_size * world * accumulated
        return -(-len(self.sequences["forget"]) // per_step) * accumulated

    def retain_pairs_drawn(self) -> float:
        """Returns how many retain pairs all ranks draw in the whole training; may be infinite."""
        trainer, (_, world, accumulated) = self.trainer, self.world()
        assert trainer is not None
        steps = math.inf if trainer.max_steps < 0 else trainer.max_steps * accumulated
        epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
        batches = min(steps, epochs * self.batches_per_epoch())
        return batches * world * self.retain_batch_size

    def batch_at(self, number: int) -> Batch:
        return self.lay_out(self.trees_at(number), number)

    def lay_out(self, trees: Sequence[Tree], number: int) -> Batch:
        """Lays prompts and answers out in the rows of a batch of that number."""
        return make_batch(trees, self.layout, self.pad_token_id, number, self.forwards)

    def trees_at(self, number: int) -> list[Tree]:
        """Returns the prompts and answers of a batch, before they are laid out in rows."""
        rank, world, _ = self.world()
        place = number * world + rank
        trees = [self._forget_tree(n) for n in _positions(place, self.batch_size)]
        for n, sequence in self.pairs.at(_positions(place, self.retain_batch_size)):
            trees.append(Tree(sequence.prompt_ids, (Answer("retain", n, sequence.response_ids),)))
        return trees

    def _forget_tree(self, position: int) -> Tree:
        epoch, number = self.order[position]
        forget = self.sequences["forget"][number]
        alternates = [] if self.alternates is None else self.alternates.draw(number, epoch)
        others = {"alternate": alternates, "mismatch": self.mismatches.draw(number, epoch)}
        return self.forget_tree(forget, number, others)

    def forget_tree(
        self,
        forget: TokenizedExample,
        number: int,
        others: Mapping[Any, Iterable[tuple[int, TokenizedExample]]],
    ) -> Tree:
        """Makes the tree of a forget prompt with its answer, and with others by role."""
        answers = [Answer("forget", number, forget.response_ids)]
        # Those were cut to fit prompts of their own; here they have to fit this one.
        room = self.max_length - len(forget.prompt_ids)
        answers += [
            Answer(role, other, sequence.response_ids[:room])
            for role, found in others.items()
            for other, sequence in found
        ]
        return Tree(forget.prompt_ids, tuple(answers))

    def heldout(self, split: HeldOut = "validation") -> HeldOutBatches:
        """Returns batches of a held-out split, with the roles of training."""
        return HeldOutBatches(self, split)


def _positions(place: int, batch_size: int) -> range:
    """Returns the positions of batch number `place` in an endless order of examples."""
    return range(place * batch_size, (place + 1) * batch_size)


def _training_examples(source: ExampleSource) -> Sequence[Example]:
    if isinstance(source, ExampleDataModule):
        return source.examples("train")
    return source if isinstance(source, StoredExamples) else list(source)
