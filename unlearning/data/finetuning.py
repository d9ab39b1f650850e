"""Fixed windows of running text as training batches: what fine-tuning teaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from unlearning.data.layout import Answer, Tree, make_batch, pack
from unlearning.data.stream import BatchStreamDataModule, ShuffledOrder
from unlearning.errors import ConfigError
from unlearning.types import Batch, TokenizedExample


class WindowSource(Protocol):
    """Running text that cuts itself into windows: a `LOTRDataModule`, say."""

    def windows(
        self, tokenizer: PreTrainedTokenizerBase, context_length: int, split: str = "train"
    ) -> list[TokenizedExample]: ...


class FinetuningDataModule(BatchStreamDataModule):
    """Every window once an epoch, in an order that is a function of (seed, epoch).

    An epoch is dealt out evenly: to as few optimizer steps as hold it, to the batches of a step and
    to the ranks, so that none is left nearly empty. A window comes twice only where a step has
    more batches than windows are left for it.

    Args:
        windows: a window is a start token and the text after it; or what cuts such windows.
        tokenizer: of the model.
        context_length: tokens of a window, its start token included (arXiv 2405.15152: 2048).
        batch_size: windows in a batch of one rank, at most.
        packing: short windows share a row, kept apart by a mask; off for models that take no such
            mask. Loss and gradient are the same.
        seed: of the order.

    Raises:
        ConfigError: from `setup`, for windows that cannot be trained on.
    """

    def __init__(
        self,
        windows: Sequence[TokenizedExample] | WindowSource,
        tokenizer: PreTrainedTokenizerBase,
        context_length: int = 2048,
        batch_size: int = 2,
        packing: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(tokenizer)
        if context_length < 2 or batch_size < 1 or seed < 0:
            raise ConfigError(
                f"context_length={context_length} must be at least 2, batch_size={batch_size} at "
                f"least 1 and seed={seed} at least 0."
            )
        self.source = windows
        self.context_length, self.batch_size = context_length, batch_size
        self.packing, self.seed = packing, seed
        self.windows: list[TokenizedExample] = []

    def setup(self, stage: str | None = None) -> None:
        """Cut the text and check the windows, once."""
        if self.windows:
            return
        if isinstance(self.source, Sequence):
            windows = list(self.source)
        else:
            windows = self.source.windows(self.tokenizer, self.context_length)
        check_windows(windows, self.context_length)
        self.order = ShuffledOrder(len(windows), "finetuning", self.seed)
        self.windows = windows

    def batches_per_epoch(self) -> int:
        _, world, accumulated = self.world()
        return -(-len(self.windows) // (self.batch_size * world * accumulated)) * accumulated

    def batch_at(self, number: int) -> Batch:
        rank, world, accumulated = self.world()
        epoch, place = divmod(number, self.batches_per_epoch())
        step, turn = divmod(place, accumulated)
        steps, batches = self.batches_per_epoch() // accumulated, world * accumulated
        first, last = _share(len(self.windows), step, steps)
        start, end = _share(max(last - first, batches), turn * world + rank, batches)
        offsets = ((first + n) % len(self.windows) for n in range(start, end))
        numbers = [self.order[epoch * len(self.windows) + n][1] for n in offsets]
        return self._batch(numbers, number)

    def _batch(self, numbers: list[int], index: int) -> Batch:
        windows = [(n, self.windows[n]) for n in numbers]
        trees = [Tree(w.prompt_ids, (Answer("train", n, w.response_ids),)) for n, w in windows]
        # A mask between windows is worth its memory only where it saves a row.
        shared = len(pack(trees, max(tree.length for tree in trees))) < len(trees)
        layout = "tree" if self.packing and shared else "padded"
        return make_batch(trees, layout, self.pad_token_id, index)  # type: ignore[arg-type]


def check_windows(windows: Sequence[TokenizedExample], context_length: int) -> None:
    """Refuse what cannot be trained on.

    Raises:
        ConfigError: no window, an empty one, or one that is too long.
    """
    if not windows:
        raise ConfigError("There is no window of text; nothing can be trained.")
    for number, window in enumerate(windows):
        if not window.prompt_ids or not window.response_ids:
            raise ConfigError(
                f"Window {number} lacks its start token or its text. Leave out empty texts."
            )
        length = len(window.prompt_ids) + len(window.response_ids)
        if length > context_length:
            raise ConfigError(
                f"Window {number} has {length} tokens, above context_length={context_length}. Cut "
                "the text into shorter windows, or raise context_length."
            )


def _share(total: int, number: int, parts: int) -> tuple[int, int]:
    """Begin and end of part `number`, where a total is cut into parts as even as can be."""
    return number * total // parts, (number + 1) * total // parts
