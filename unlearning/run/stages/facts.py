"""What `metrics.json` says beside the scores: where every number came from."""

from __future__ import annotations

from typing import Any

from unlearning.data.book import LOTRDataModule
from unlearning.data.split import SPLITS, Split


def book_facts(forget: Any) -> dict[str, Any]:
    """What became of the book's file, for the report; nothing where the forget set is no book."""
    if not isinstance(forget, LOTRDataModule):
        return {}
    numbers: dict[Split, int] = {split: len(forget.texts(split)) for split in SPLITS}
    return {
        "book": {
            "chapters": numbers,
            "passages": {split: len(forget.examples(split)) for split in SPLITS},
            "too_short_for_a_continuation": forget.num_short,
            "held_out_but_shared_with_a_training_chapter": forget.num_overlapping,
            "dropped_or_joined": dict(forget.counts),
        }
    }
