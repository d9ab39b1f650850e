"""The default metrics of each kind of prompt set, and which of them tables show first.

A kind is a shorthand: a set may list metrics of its own beside it, or have no kind at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.metrics.metric import Direction, Metric

_HARM = {
    "unlearning.metrics.harm.harmful_rate": "lower",
    "unlearning.metrics.harm.safe_and_sound_rate": "higher",
}
_SOUND = {
    "unlearning.metrics.degeneracy.empty_rate": "lower",
    "unlearning.metrics.degeneracy.repetitive_rate": "lower",
    "unlearning.metrics.degeneracy.non_word_rate": "lower",
    "unlearning.metrics.degeneracy.broken_rate": "lower",
    "unlearning.metrics.novelty.novel_words": "lower",
}
_REFUSAL = ("unlearning.metrics.refusal.refusal_rate",)
_LIKELIHOOD = (
    "unlearning.metrics.perplexity.target_perplexity",
    "unlearning.metrics.perplexity.target_nll",
)
_ORIGINAL = (
    "unlearning.metrics.likeness.bleu_to_original",
    "unlearning.metrics.likeness.rouge_l_to_original",
)
_TARGET = (
    "unlearning.metrics.likeness.rouge_l_to_target",
    "unlearning.metrics.likeness.bleu_to_target",
)
_VERBATIM = (
    "unlearning.metrics.memorisation.mean_verbatim_tokens",
    "unlearning.metrics.memorisation.mean_verbatim_chars",
)
_KNOWN = (
    "unlearning.metrics.memorisation.mean_extraction_strength",
    "unlearning.metrics.memorisation.mean_exact_memorisation",
)
_RIGHT = (
    "unlearning.metrics.accuracy.rouge_accuracy",
    "unlearning.metrics.accuracy.exact_match",
    "unlearning.metrics.accuracy.kept_right",
)


def _all(paths: Sequence[str], direction: Direction) -> dict[str, Direction]:
    return dict.fromkeys(paths, direction)


@dataclass(frozen=True)
class Kind:
    """The default metrics of a kind of prompt set.

    Args:
        metrics: import path to the direction that is better on such a set.
        front: names of those that tables put in front, of further similarities as well.
    """

    metrics: dict[str, Direction]
    front: tuple[str, ...] = ()


_GENERAL: dict[str, Direction] = {**_HARM, **_SOUND}  # type: ignore[dict-item]

KINDS = {
    "harmful": Kind(
        {
            **_GENERAL, "unlearning.metrics.harm.effectiveness": "higher",
            **_all(_LIKELIHOOD, "higher"), **_all(_ORIGINAL, None), **_all(_TARGET, "lower"),
            **_all(_REFUSAL, None),
        },
        (
            "effectiveness", "harmful_rate", "safe_and_sound_rate", "embedding_to_target",
            "broken_rate", "novel_word_share",
        ),
    ),
    "copyright": Kind(
        {
            **_GENERAL, **_all(_LIKELIHOOD, "higher"), **_all(_ORIGINAL, None),
            **_all(_TARGET, "lower"), **_all(_VERBATIM, "lower"), **_all(_KNOWN, "lower"),
        },
        (
            "bleu_to_target", "embedding_to_target", "verbatim_tokens", "extraction_strength",
            "broken_rate",
        ),
    ),
    "retain": Kind(
        {
            **_GENERAL, **_all(_LIKELIHOOD, "lower"), **_all(_ORIGINAL, "higher"),
            **_all(_TARGET, "higher"), **_all(_VERBATIM, None), **_all(_RIGHT, "higher"),
            **_all(_KNOWN, None), **_all(_REFUSAL, "lower"),
        },
        (
            "perplexity", "perplexity_relative", "bleu_to_original", "embedding_to_original",
            "broken_rate",
        ),
    ),
    "related": Kind(
        {
            **_GENERAL, **_all(_LIKELIHOOD, "lower"), **_all(_ORIGINAL, "higher"),
            **_all(_TARGET, "higher"), **_all(_RIGHT, "higher"), **_all(_REFUSAL, "lower"),
        },
        ("kept_right", "rouge_accuracy", "embedding_to_original", "refusal_rate", "broken_rate"),
    ),
    "": Kind(
        {
            **_GENERAL, **_all(_LIKELIHOOD, "lower"), **_all(_ORIGINAL, None),
            **_all(_TARGET, "higher"),
        }
    ),
}  # fmt: skip
"""`harmful`: the answer should no longer be harmful. `copyright`: the text should no longer be
continued. `retain`: the answer should stay as it was. `related`: harmless, on the forget set's
topics. Without a kind: what can be said of any prompts with answers."""


@cache
def metrics_of_kind(kind: str) -> tuple[Metric, ...]:
    """Returns the metrics of a kind of prompt set.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        known = ", ".join(name for name in KINDS if name)
        raise ConfigError(f"kind is {kind!r}; expected one of {known}, or none at all.")
    found = []
    for path, direction in KINDS[kind].metrics.items():
        declared: Metric = import_object(path)
        if direction != declared.direction:  # what is said of its changes holds no longer
            changes = {n: replace(c, direction=None) for n, c in declared.changes.items()}
            declared = replace(declared, direction=direction, changes=changes)
        found.append(declared)
    return tuple(found)
