"""Facts that `metrics.json` records about the data."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig

from unlearning.data.book import LOTRDataModule
from unlearning.data.split import SPLITS, Split
from unlearning.run.config.build import Data, build_alternate
from unlearning.run.config.evaluate import EVALUATE


def book_facts(forget: Any) -> dict[str, Any]:
    """Returns what was cleaned, dropped and joined in the book's file; nothing for other forget
    sets."""
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


def fingerprints(config: DictConfig, data: Data) -> dict[str, str]:
    """Returns the fingerprint of every data set, by name."""
    found = {name: module.fingerprint() for name, module in data.items() if module is not None}
    alternate = None if config.task == EVALUATE else build_alternate(config)
    if isinstance(alternate, list):
        found["alternate"] = hashlib.sha256(json.dumps(alternate).encode()).hexdigest()
    elif alternate is not None:
        found["alternate"] = alternate.fingerprint()
    return found
