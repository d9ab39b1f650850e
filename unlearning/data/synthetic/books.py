"""The embedded story as a book, and the embedded prose as a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from unlearning.data.book import LOTRDataModule
from unlearning.data.bookcorpus import BookCorpusDataModule
from unlearning.data.examples import ExampleSettings
from unlearning.data.synthetic.texts import prose_file, story_text
from unlearning.ranges import Count

STORY_FRACTIONS = (0.8, 0.0, 0.2)


class StoryDataModule(LOTRDataModule):
    """The embedded story, which the copyright demo fine-tunes its model on and then unlearns.

    Args:
        passage_words: of the longest passage.
        chapters: [first, last], to use a part of it.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        passage_words: Count = 60,
        chapters: Sequence[Count] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        settings.setdefault("fractions", STORY_FRACTIONS)
        super().__init__(
            "embedded:story", cleaning={"end": "^The End$"}, passage_words=passage_words,
            chapters=chapters, finetune_on="passages", **settings,
        )  # fmt: skip

    def pages(self) -> list[str]:
        return [story_text()]


class ProseDataModule(BookCorpusDataModule):
    """The embedded prose, the normal text that the copyright demo retains.

    Args:
        window_words: about how many words a window has.
        streaming: as for any corpus; this one is small.
        section_windows: windows that are assigned to a split together.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        window_words: Count = 40,
        streaming: bool = False,
        section_windows: Count = 4,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(
            prose_file(), window_words=window_words, streaming=streaming,
            section_windows=section_windows, **settings,
        )  # fmt: skip
        self.source = "embedded:prose"
