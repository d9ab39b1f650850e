"""BookCorpus (arXiv 1506.06724) or any other plain text as a retain set."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Unpack, get_args

import numpy as np

from unlearning.data.corpus import Corpus
from unlearning.data.digests import digests
from unlearning.data.example_stream import ExampleStream, StreamedExamples, no_training_window
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.split import SPLITS, Split
from unlearning.data.stored_examples import StoredExamples
from unlearning.data.stream_loader import BatchMaker, StreamBatches, StreamLoader
from unlearning.data.template import PromptTemplate
from unlearning.data.window_corpus import WindowCorpus
from unlearning.data.windows import Records
from unlearning.errors import ConfigError
from unlearning.ranges import Count, InnerShare, Whole
from unlearning.types import Example


class BookCorpusDataModule(ExampleDataModule, StreamedExamples):
    """Cuts a corpus into windows of whole sentences; the first fifth of each is the prompt.

    With `streaming`, memory stays the same however large the corpus is: `stream()` reads the
    training split block by block, of the held-out splits a bounded number is kept. Without, it is
    a data set like any other, and a cached reference is possible. The splits are the same, except
    that text which is in the corpus twice can be in two splits of a stream, since duplicates are
    only found in a list of all windows.

    Args:
        source: a hub id, or a .txt, .jsonl or .parquet file, or a folder of files of one such kind.
        records: what a row or a line of text is: one of the `sentences` of a text (None: on the
            hub), any text (`lines`), or part of `paragraphs` with blank lines between (None: in
            local files).
        text_column: of rows.
        window_words: about how many words a window has, from half to one and a half of this.
        prompt_share: of the words that make the prompt (arXiv 2405.15152: the first fifth).
        streaming: read the corpus as a stream, instead of into memory.
        buffer_size: windows that are held and shuffled together.
        mismatch_pool: windows from which mismatch answers are drawn; None: as many as the buffer.
        held_out_limit: windows that `examples` gives of a held-out split when streaming.
        section_windows: consecutive windows that are assigned to a split together.
        num_workers: processes that read, where this data set is trained on alone.
        records_split: which split of the hub data set, as for the next two.
        where: which rows to take, for example `{language: en}`; see
            `unlearning.data.records.where.RowFilter`.
        settings: see `ExampleDataModule`. The template puts nothing around a passage.

    Raises:
        ConfigError: sizes below 1, or a share that leaves the answer less than half.
    """

    def __init__(
        self,
        source: str = "bookcorpus/bookcorpus",
        records: Records | None = None,
        text_column: str = "text",
        window_words: Count = 100,
        prompt_share: InnerShare = 0.2,
        streaming: bool = True,
        buffer_size: Count = 10_000,
        mismatch_pool: Count | None = None,
        held_out_limit: Count = 200,
        section_windows: Count = 50,
        num_workers: Whole = 0,
        records_split: str = "train",
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        if settings.get("template") is None:
            settings["template"] = PromptTemplate("{prompt}", "", append_eos=False)
        super().__init__(**settings)
        self.source, self.streaming, self.buffer_size = source, streaming, buffer_size
        if streaming and (self.train_prompts or self.answers_per_prompt):
            raise ConfigError(
                "train_prompts and answers_per_prompt take a part of a set that is read whole; "
                "a streamed one ends with the steps of the training. Set streaming=false."
            )
        self.mismatch_pool = buffer_size if mismatch_pool is None else mismatch_pool
        self.held_out_limit, self.num_workers = held_out_limit, num_workers
        _check_settings(
            records, prompt_share, window_words=window_words, buffer_size=buffer_size,
            mismatch_pool=self.mismatch_pool, held_out_limit=held_out_limit,
            section_windows=section_windows,
        )  # fmt: skip
        self.windows = WindowCorpus(
            Corpus(source, text_column, records_split, config_name, revision, where),
            records, window_words, prompt_share, section_windows, self.fractions, self.seed,
        )  # fmt: skip
        self._held_out: dict[Split, list[Example]] = {}
        self._sides = array("b")  # the number of each window's split, in the order of reading
        self._loader_of_stream: StreamLoader | None = None
        self._state: dict[str, int] = {"next_batch": 0}

    def check(self) -> None:
        self.windows.corpus.check()

    def read(self) -> Iterator[Example]:
        """Yields all windows; only without streaming."""
        self._sides = array("b")
        for number, split in enumerate(SPLITS):
            for part in range(len(self.windows.names)):
                for _, example in self.windows.examples(part, split):
                    self._sides.append(number)
                    yield example

    def split(self, examples: Sequence[Example]) -> Mapping[Split, Sequence[Example]]:
        """Splits by section, as the stream does, in hash order, so that the first few are a sample.

        Args:
            examples: as `setup` gives them, some of those that were read.
        """
        assert isinstance(examples, StoredExamples)
        ranks = digests(map(self._ranked_text, examples), len(examples))
        order = np.argsort(ranks, kind="stable")
        sides = np.array(self._sides)[examples.rows[order]]
        splits = {name: examples.take(order[sides == n]) for n, name in enumerate(SPLITS)}
        self._sides = array("b")
        if not splits["train"]:
            raise no_training_window(self.source)
        return splits

    def setup(self, stage: str | None = None) -> None:
        if not self.streaming:
            super().setup(stage)

    def examples(self, split: Split) -> Sequence[Example]:
        """Returns the examples of a split; when streaming, at most `held_out_limit` of a held-out
        one.

        Raises:
            ConfigError: the training split is streamed.
        """
        if not self.streaming or split not in SPLITS:
            return super().examples(split)
        if split == "train":
            raise ConfigError(
                f"{self.source} is streamed, and its training split is not held in memory. Use "
                ".stream(), or set streaming=false."
            )
        if split not in self._held_out:
            self._held_out[split] = self._mixed(self._find(split))
        return list(self._held_out[split])

    def stream(self, seed: int | None = None) -> ExampleStream:
        return ExampleStream(
            partial(self.windows.examples, split="train"), len(self.windows.names),
            self.buffer_size, self.source, self.seed if seed is None else seed,
        )  # fmt: skip

    def texts(self) -> Iterator[str]:
        """Yields the windows of the training split, one at a time."""
        return self.windows.texts("train")

    def fingerprint(self) -> str:
        """Returns a sha256 of settings and text; of a hub's text, of name and revision only."""
        order = [self.streaming, self.buffer_size, self.mismatch_pool, self.held_out_limit]
        content = [*self.windows.settings(), *(order if self.streaming else order[:1])]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def train_dataloader(self) -> Any:
        """Returns a loader of this data set alone; when streaming, a resumable `StreamLoader`."""
        if not self.streaming:
            return super().train_dataloader()
        trainer = self.trainer
        world, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        make = BatchMaker(self.tokenizer, self.template, self.max_length)
        batches = StreamBatches(self.stream(), make, self.batch_size, rank, world)
        self._loader_of_stream = StreamLoader(batches, self.num_workers, trainer)
        self._loader_of_stream.load_state_dict(self._state)
        return self._loader_of_stream

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self._loader_of_stream is not None and self.trainer and self.trainer.training:
            self._loader_of_stream.begun = batch.index + 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        loader = self._loader_of_stream
        return self._state if loader is None else loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict
        if self._loader_of_stream is not None:
            self._loader_of_stream.load_state_dict(state_dict)

    def _find(self, split: Split) -> Iterator[Example]:
        """Returns the first windows of a held-out split, from as many parts of the corpus as
        possible."""
        if self.fractions[SPLITS.index(split)] == 0:
            return  # or all of the corpus would be searched for nothing
        parts = list(range(len(self.windows.names)))
        random.Random(f"held out/{self.seed}").shuffle(parts)
        wanted, taken = self.held_out_limit, dict.fromkeys(parts, 0)
        for evenly in (True, False):  # some parts may have had less than their share
            for place, part in enumerate(parts):
                most = -(-wanted // (len(parts) - place)) if evenly else wanted
                if most == 0:
                    return
                found = self.windows.examples(part, split)
                for _, example in islice(found, taken[part], taken[part] + most):
                    taken[part], wanted = taken[part] + 1, wanted - 1
                    yield example

    def _mixed(self, examples: Iterable[Example]) -> list[Example]:
        found = list(examples)
        order = np.argsort(digests(map(self._ranked_text, found)), kind="stable")
        return [found[number] for number in order]

    def _ranked_text(self, example: Example) -> str:
        """Returns the text by whose hash the examples of a split are ordered."""
        return f"{self.seed}\n{example.prompt}{example.response}"


def _check_settings(records: Any, prompt_share: InnerShare, **sizes: int) -> None:
    if records is not None and records not in get_args(Records):
        raise ConfigError(f"records={records!r}: expected one of {', '.join(get_args(Records))}.")
    if not 0 < prompt_share <= 0.5:
        raise ConfigError(
            f"prompt_share={prompt_share}: expected a share above 0 and at most 0.5, for example "
            "0.2; the answer is the greater part of a window."
        )
    for name, size in sizes.items():
        least = 4 if name == "window_words" else 1
        if size < least:
            raise ConfigError(f"{name}={size} must be at least {least}.")
