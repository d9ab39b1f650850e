"""Data sets that come with the package: enough to show unlearning from start to end offline.

Origin: every sentence was written for this project, by hand or through the small grammars beside
it; nothing is copied from a data set, a model or the web, and it may be used under the licence of
the project. The harmful part is mild on purpose: cheating, petty theft, insults, dares and small
lies, and nothing that could be put to serious use.

======================== ==========================================================================
`harmful_examples`       questions with harmful answers; `train` and `heldout`
`everyday_examples`      everyday questions with true answers, which must be kept
`related_examples`       harmless questions on the harmful topics; neither forgotten nor retained
`comments`               labelled sentences for the harm classifier
`pretraining_examples`   all that the embedded base model is trained on
`story_text`             a story in fifteen chapters, to be forgotten as a book
`prose_text`             advice and notes in plain prose, to be kept
======================== ==========================================================================

The functions are pure, deterministic and need no torch; `SyntheticDataModule`, which does, is
imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from unlearning.data.synthetic.comments import comments
from unlearning.data.synthetic.everyday import everyday_examples
from unlearning.data.synthetic.harmful import harmful_examples
from unlearning.data.synthetic.related import related_examples
from unlearning.data.synthetic.texts import prose_file, prose_text, story_text
from unlearning.types import Example

__all__ = [
    "ProseDataModule",
    "StoryDataModule",
    "SyntheticDataModule",
    "comments",
    "everyday_examples",
    "harmful_examples",
    "pretraining_examples",
    "prose_file",
    "prose_text",
    "related_examples",
    "story_text",
]

_HOME = {
    "ProseDataModule": "unlearning.data.synthetic.books",
    "StoryDataModule": "unlearning.data.synthetic.books",
    "SyntheticDataModule": "unlearning.data.synthetic.datamodule",
}


def pretraining_examples() -> list[Example]:
    """Returns everything the demo's base model is trained on; held-out harmful prompts are not
    in it."""
    return [*harmful_examples("train"), *everyday_examples(), *related_examples()]


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562), as in `unlearning.data`: the text alone needs neither torch nor Lightning.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
