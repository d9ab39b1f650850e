"""Similarity (BLEU, ROUGE-L) of answers to the first model's answers, and to the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.errors import ConfigError
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.metrics.metric import Answers, Metric, metric
from unlearning.metrics.similarity import MAX_ORDER, bleu_of_sums, bleu_statistics, rouge_l_each
from unlearning.metrics.statistic import Array, Sums, mean
from unlearning.metrics.words import split_words

Similarity = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""(hypotheses, targets) to a score per pair, for example `embedding.EmbeddingSimilarity`."""


@metric(
    "BLEU to the original model's answers", unit="BLEU (0..100)", direction="higher",
    against="first", of_itself=100.0,
)  # fmt: skip
def bleu_to_original(answers: Answers, first: Answers) -> Sums:
    """Corpus BLEU of the answers, with those of the first model as references."""
    return corpus(_completions(answers), _completions(first))


@metric(
    "ROUGE-L to the original model's answers", unit="ROUGE-L F1 (0..1)", direction="higher",
    against="first",
)  # fmt: skip
def rouge_l_to_original(answers: Answers, first: Answers) -> Array:
    """Mean ROUGE-L F1 of the answers to those of the first model."""
    return rouge_l_each(_completions(answers), _completions(first))


@metric("BLEU to the data set's answers", unit="BLEU (0..100)", direction="higher")
def bleu_to_target(answers: Answers) -> Sums | None:
    """Corpus BLEU of the answers to the targets. Over prompts that have one."""
    asked = has_target(answers)
    return corpus(_completions(answers), _targets(answers), asked) if asked.any() else None


@metric("ROUGE-L to the data set's answers", unit="ROUGE-L F1 (0..1)", direction="higher")
def rouge_l_to_target(answers: Answers) -> Sums | None:
    """Mean ROUGE-L F1 of the answers to the targets. Over prompts that have one."""
    asked = has_target(answers)
    found = rouge_l_each(_completions(answers), _targets(answers))
    return mean(found, asked) if asked.any() else None


def similarity_metrics(name: str, similarity: Similarity, kind: str = "") -> tuple[Metric, ...]:
    """Makes the metrics `<name>_to_original` and `<name>_to_target` of a similarity of two texts.

    Args:
        name: of the similarity, such as `embedding`.
        kind: of the prompt set; the directions are those of BLEU there.
    """
    made = (_to_original(name, similarity), _to_target(name, similarity))
    usual = {each.name: each.direction for each in metrics_of_kind(kind)}
    return tuple(replace(each, direction=usual[each.name.replace(name, "bleu")]) for each in made)


def _to_original(name: str, similarity: Similarity) -> Metric:
    def to_original(answers: Answers, first: Answers) -> Array:
        return _checked(similarity, _completions(answers), _completions(first), name)

    return metric(
        f"{name.capitalize()} similarity to the original model's answers", unit=_unit(similarity),
        direction="higher", name=f"{name}_to_original", against="first",
    )(to_original)  # fmt: skip


def _to_target(name: str, similarity: Similarity) -> Metric:
    def to_target(answers: Answers) -> Sums | None:
        asked = has_target(answers)
        if not asked.any():
            return None
        pairs = [g for g, has in zip(answers, asked, strict=True) if has]
        found = np.zeros(len(answers))
        found[asked] = _checked(similarity, _completions(pairs), _targets(pairs), name)
        return mean(found, asked)

    return metric(
        f"{name.capitalize()} similarity to the data set's answers", unit=_unit(similarity),
        direction="higher", name=f"{name}_to_target",
    )(to_target)  # fmt: skip


def _unit(similarity: Similarity) -> str:
    return str(getattr(similarity, "unit", "similarity"))


def has_target(answers: Answers) -> NDArray[np.bool_]:
    """Returns [n] whether the target of each answer's prompt has a word."""
    return np.array([bool(split_words(g.target)) for g in answers], dtype=bool)


def corpus(
    said: Sequence[str], true: Sequence[str], where: NDArray[np.bool_] | None = None
) -> Sums:
    """Computes corpus BLEU. Undefined where no target has a 4-gram: BLEU would call a perfect
    copy 0.

    Args:
        where: [n] the pairs that it is over; None: all.
    """
    counts = bleu_statistics(said, true)
    rows = np.column_stack([counts, np.maximum(counts[:, -1] - MAX_ORDER + 1, 0)]).astype(float)
    return Sums(rows if where is None else np.where(where[:, None], rows, 0.0), _bleu, where)


def _bleu(sums: Array) -> Array:
    return np.where(sums[:, -1] > 0, bleu_of_sums(sums[:, :-1]), np.nan)


def _targets(answers: Answers) -> list[str]:
    return [g.target for g in answers]


def _completions(answers: Answers) -> list[str]:
    return [g.completion for g in answers]


def _checked(similarity: Similarity, said: list[str], true: list[str], name: str) -> Array:
    values = np.asarray(similarity(said, true), dtype=np.float64)
    if values.shape != (len(true),):
        raise ConfigError(
            f"similarity {name!r} returned shape {values.shape} for {len(true)} pairs; expected "
            "one score per pair."
        )
    return values
