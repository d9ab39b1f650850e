"""The user's own copy of a book as a data set of passages to forget."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from unlearning.data.book.chapters import (
    CHAPTER_PATTERN,
    Chapter,
    assign_chapters,
    choose_chapters,
    split_chapters,
)
from unlearning.data.book.cleaning import CleaningRules, check_pattern, clean_pages
from unlearning.data.book.paragraphs import join_paragraphs
from unlearning.data.book.passages import PromptLength, cut_passages, cut_prompt
from unlearning.data.book.readers import read_pages
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.ngrams import ngrams
from unlearning.data.records.opening import kind_of
from unlearning.data.split import SPLITS, Split
from unlearning.data.template import PromptTemplate
from unlearning.data.text import text_windows
from unlearning.errors import ConfigError
from unlearning.ranges import Count, Whole
from unlearning.types import Example, TokenizedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class LOTRDataModule(ExampleDataModule):
    """Cuts a book into passages, one Example each: its beginning as prompt, its continuation as
    response.

    arXiv 2405.15152 forgets The Lord of the Rings; any book works. Pages are cleaned by rules,
    lines are joined to paragraphs, paragraphs are split into chapters at headings (which are in no
    passage and no window), and whole chapters are assigned to the splits. `example.prompt +
    example.response` is the passage. The examples of a split are in the order of a hash, so that
    the first n are a sample of all its chapters. A subclass whose text comes from elsewhere
    overrides `pages`.

    Args:
        source: .txt, .jsonl (a page a line), .epub or .pdf; the last two need the extra `books`.
        text_column: of a .jsonl, where the page's text stands.
        where: of a .jsonl, which lines to take, for example `{book: 1}`; see
            `unlearning.data.records.where.RowFilter`.
        cleaning: what belongs to the text, a `CleaningRules` or a mapping of its arguments.
        chapter_pattern: regular expression for a line that heads a chapter; `auto` takes
            "Chapter 1" and its like (`CHAPTER_PATTERN`), None makes blocks.
        chapter_paragraphs: paragraphs of such a block.
        chapters: [first, last], to use a part of the book.
        passage_words: of the longest passage; prompt and continuation together.
        prompt: one of `{fraction: 0.2}` (the paper's), `{characters: 200}`, `{tokens: 50}`.
        overlap_words: a passage held out that shares so many words in a row with a training
            chapter is dropped, and counted.
        finetune_on: what the windows for fine-tuning run over: whole chapters (the paper's), or
            each passage alone, as it will be prompted; a tiny model also knows a text by its
            position.
        settings: see `ExampleDataModule`; the template is by default the passage alone.

    Attributes:
        counts: what cleaning has dropped and joined, once the book is read; by name.
        num_short: passages no longer than their prompt, which are skipped.
        num_overlapping: passages held out and dropped.

    Raises:
        ConfigError: settings that make no sense; on reading, a book that is none.
    """

    def __init__(
        self,
        source: str,
        text_column: str = "text",
        cleaning: CleaningRules | Mapping[str, Any] | None = None,
        chapter_pattern: str | None = "auto",
        chapter_paragraphs: Count = 40,
        chapters: Sequence[Count] | None = None,
        passage_words: Count = 100,
        prompt: PromptLength | Mapping[str, Any] | None = None,
        overlap_words: Whole = 13,
        finetune_on: Literal["chapters", "passages"] = "chapters",
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        if settings.get("template") is None:
            settings["template"] = PromptTemplate("{prompt}", "", append_eos=False)
        super().__init__(**settings)
        if self.train_prompts or self.answers_per_prompt:
            raise ConfigError(
                f"train_prompts={self.train_prompts}, answers_per_prompt="
                f"{self.answers_per_prompt}: fine-tuning on a book runs over all of its training "
                "chapters, so that passages left out would be learned and never unlearned. Set "
                "chapters=[first, last] to use a part of the book."
            )
        least = {"chapter_paragraphs": chapter_paragraphs, "overlap_words": overlap_words}
        for name, value in {**least, "passage_words": passage_words - 1}.items():
            if value < 1:
                smallest = 1 + (name == "passage_words")
                raise ConfigError(f"{name}={value + smallest - 1}: expected at least {smallest}.")
        check_pattern("chapter_pattern", chapter_pattern)
        if finetune_on not in ("chapters", "passages"):
            raise ConfigError(f"finetune_on={finetune_on!r}: expected chapters or passages.")
        self.finetune_on = finetune_on
        self.source, self.text_column, self.where = str(source), text_column, where
        self.cleaning = CleaningRules.of(cleaning)
        self.chapter_pattern = CHAPTER_PATTERN if chapter_pattern == "auto" else chapter_pattern
        self.chapter_paragraphs = chapter_paragraphs
        self.chapters = chapters
        self.passage_words, self.overlap_words = passage_words, overlap_words
        self.prompt = PromptLength.of(prompt if prompt is not None else {"fraction": 0.2})
        self.counts: Counter[str] = Counter()
        self.num_short = self.num_overlapping = 0
        self._assigned: dict[Split, list[Chapter]] | None = None
        self._home: dict[Example, Split] = {}

    def pages(self) -> list[str]:
        """Returns the raw text, page by page (a text without pages is one). Called once."""
        return read_pages(Path(self.source), self.text_column, self.where)

    def check(self) -> None:
        """Reads and cuts the book, so that anything wrong with it is reported."""
        self.prompt.counter(self.tokenizer)
        self._by_split()

    def _by_split(self) -> dict[Split, list[Chapter]]:
        if self._assigned is None:
            # The sections of an epub are no pages: nothing runs over their ends.
            paged = kind_of(self.source) != ".epub"
            paragraphs = self._paragraphs(self.pages(), paged)
            chapters, dropped = split_chapters(
                paragraphs, self.chapter_pattern, self.chapter_paragraphs
            )
            self.counts += dropped
            self._assigned = assign_chapters(
                choose_chapters(chapters, self.chapters), self.fractions, self.seed
            )
            log.info(
                "%s: %d chapters (%s); dropped or joined: %s",
                self.source,
                sum(map(len, self._assigned.values())),
                ", ".join(f"{len(part)} {name}" for name, part in self._assigned.items()),
                ", ".join(f"{count} {name}" for name, count in self.counts.items()) or "nothing",
            )
        return self._assigned

    def _paragraphs(self, pages: list[str], paged: bool) -> list[str]:
        lines, self.counts = clean_pages(pages, self.cleaning, self._is_heading, paged)
        rules = self.cleaning
        paragraphs, joined = join_paragraphs(
            lines, self._is_heading, rules.paragraphs, rules.join_hyphens, paged
        )
        self.counts = +(self.counts + joined)
        if not paragraphs:
            raise ConfigError(f"{self.source}: no text is left. Loosen the rules in cleaning.")
        return paragraphs

    def _is_heading(self, line: str) -> bool:
        return (
            self.chapter_pattern is not None and re.search(self.chapter_pattern, line) is not None
        )

    def texts(self, split: Split) -> list[str]:
        """Returns the chapters of a split in the order of the book, without headings."""
        if split not in SPLITS:
            raise ConfigError(f"Unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
        return [chapter.text for chapter in self._by_split()[split]]

    def passages(self, split: Split) -> list[str]:
        """Returns all passages of a split in the order of the book, the short ones too."""
        return [p for text in self.texts(split) for p in cut_passages(text, self.passage_words)]

    def windows(
        self, tokenizer: PreTrainedTokenizerBase, context_length: int, split: Split = "train"
    ) -> list[TokenizedExample]:
        """Cuts each chapter (or passage, see `finetune_on`) into consecutive windows of
        `context_length` tokens, the start token included; the last one may be shorter."""
        texts = self.texts(split) if self.finetune_on == "chapters" else self.passages(split)
        windows = (text_windows(text, tokenizer, context_length) for text in texts)
        return [window for of_text in windows for window in of_text]

    def read(self) -> list[Example]:
        tokenizer = self.prompt.counter(self.tokenizer)
        self.num_short = self.num_overlapping = 0
        overlap = self.overlap_words
        trained = {gram for text in self.texts("train") for gram in ngrams(text, overlap)}
        self._home = {}
        for split in SPLITS:
            for passage in self.passages(split):
                if split != "train" and not trained.isdisjoint(ngrams(passage, overlap)):
                    self.num_overlapping += 1
                    continue
                example = cut_prompt(passage, self.prompt, tokenizer)
                if example is None:
                    self.num_short += 1
                else:
                    self._home.setdefault(example, split)
        log.info(
            "%s: %d passages are too short for a prompt and a continuation, and skipped; %d held "
            "out share %d words in a row with a training chapter, and are dropped.",
            self.source, self.num_short, self.num_overlapping, self.overlap_words,
        )  # fmt: skip
        return list(self._home)

    def split(self, examples: Sequence[Example]) -> dict[Split, list[Example]]:
        def rank(example: Example) -> str:
            text = example.prompt + example.response
            return hashlib.sha256(f"{self.seed}\n{text}".encode()).hexdigest()

        ordered = sorted(examples, key=rank)
        splits = {name: [e for e in ordered if self._home[e] == name] for name in SPLITS}
        if not splits["train"]:
            raise ConfigError(
                f"{self.source}: no training passage is longer than its prompt ({self.num_short} "
                f"are too short). Set a shorter prompt, or passage_words={self.passage_words} "
                "higher."
            )
        return splits

    def fingerprint(self) -> str:
        """Returns a sha256 of examples and chapters, since fine-tuning sees text that is in no
        example."""
        texts = json.dumps([self.finetune_on, *(self.texts(split) for split in SPLITS)])
        return hashlib.sha256((super().fingerprint() + texts).encode()).hexdigest()
