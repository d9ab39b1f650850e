"""Retain pairs and mismatch answers of an unlearning, from lists or from a stream."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from unlearning.data.example_stream import StreamedExamples
from unlearning.data.mismatch import MismatchSampler
from unlearning.data.overlap import check_disjoint
from unlearning.data.pairs import (
    ListedMismatches,
    ListedPairs,
    MismatchAnswers,
    RetainPairs,
    StreamedMismatches,
    StreamedPairs,
)
from unlearning.data.records.source import fingerprint
from unlearning.data.stream import ShuffledOrder
from unlearning.data.template import Template
from unlearning.data.tokenize_windows import tokenize_windows
from unlearning.errors import ConfigError
from unlearning.types import Example, TokenizedExample


class Settings(Protocol):
    """Protocol: the settings of an `UnlearningDataModule` that they depend on."""

    tokenizer: Any
    template: Template
    max_length: int
    mismatch_per_prompt: int
    seed: int

    @property
    def truncated(self) -> MutableMapping[str, int]: ...

    def tokenize(self, name: str, examples: Sequence[Example]) -> Sequence[TokenizedExample]: ...


@dataclass(frozen=True)
class Retained:
    """Retain pairs and mismatch answers, ready to be drawn.

    Args:
        sequences: all retain pairs; None where they are streamed.
        fingerprints: of the examples, by what they are for.
    """

    pairs: RetainPairs
    mismatches: MismatchAnswers
    sequences: Sequence[TokenizedExample] | None
    fingerprints: dict[str, str]


def listed(
    settings: Settings,
    forget: Sequence[Example],
    retain: Sequence[Example],
    mismatch_from: Sequence[Example] | None = None,
) -> Retained:
    """Checks and tokenises retain pairs and mismatch answers.

    Args:
        mismatch_from: examples whose answers are drawn as mismatch answers; None: `retain`.

    Raises:
        ConfigError: see `check_together`.
    """
    check_together(forget, retain, settings.mismatch_per_prompt, mismatch_from)
    fingerprints = {"retain": fingerprint(retain)}
    sequences = settings.tokenize("retain", retain)
    pairs = ListedPairs(sequences, ShuffledOrder(len(retain), "retain", settings.seed))
    if mismatch_from is None:
        mismatches = ListedMismatches(sequences, _sampler(settings, retain))
    else:
        fingerprints["mismatch"] = fingerprint(mismatch_from)
        mismatches = _mismatches(settings, mismatch_from)
    return Retained(pairs, mismatches, sequences, fingerprints)


def streamed(
    settings: Settings,
    forget: Sequence[Example],
    retain: StreamedExamples,
    mismatch_from: Sequence[Example] | None = None,
) -> Retained:
    """Checks and opens a stream of retain pairs; see `listed`.

    Mismatch answers come from the head of the stream, or from `mismatch_from`.
    """
    # Before anything is read, since this finds what is wrong with any of the text.
    fingerprints = {"retain": retain.fingerprint()}
    # From a stream of its own: a resumed run goes straight to its place in the other one.
    pool = retain.stream(settings.seed).head(retain.mismatch_pool)
    examples = [example for _, example in pool]
    check_together(forget, examples, settings.mismatch_per_prompt, mismatch_from)
    tokenize = partial(
        tokenize_windows, tokenizer=settings.tokenizer, template=settings.template,
        max_length=settings.max_length,
    )  # fmt: skip
    pairs = StreamedPairs(retain.stream(settings.seed), tokenize, settings.truncated)
    mismatches: MismatchAnswers
    if mismatch_from is None:
        mismatches = StreamedMismatches(pool, _sampler(settings, examples), tokenize)
    else:
        fingerprints["mismatch"] = fingerprint(mismatch_from)
        mismatches = _mismatches(settings, mismatch_from)
    return Retained(pairs, mismatches, None, fingerprints)


def _sampler(settings: Settings, examples: Sequence[Example]) -> MismatchSampler:
    return MismatchSampler(examples, settings.mismatch_per_prompt, settings.seed)


def _mismatches(settings: Settings, examples: Sequence[Example]) -> ListedMismatches:
    return ListedMismatches(settings.tokenize("mismatch", examples), _sampler(settings, examples))


def check_together(
    forget: Sequence[Example],
    retain: Sequence[Example],
    mismatch_per_prompt: int,
    mismatch_from: Sequence[Example] | None = None,
) -> None:
    """Checks whether the sets can be trained on together.

    Raises:
        ConfigError: one is empty, they overlap, or there are too few mismatch answers.
    """
    for name, examples in (("forget", forget), ("retain", retain)):
        if not examples:
            raise ConfigError(f"The {name} set has no training example; nothing can be trained.")
    check_disjoint(forget, retain)
    if mismatch_from is not None:
        check_disjoint(forget, mismatch_from, names=("forget", "mismatch"))
    MismatchSampler(retain if mismatch_from is None else mismatch_from, mismatch_per_prompt)
