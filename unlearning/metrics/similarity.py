"""Text similarity: corpus BLEU and ROUGE-L.

The paper announces BLEU and its released code scores the cosine of one sample (ARCHITECTURE 1.6);
here sacrebleu counts, and BLEU is kept as per-sentence statistics, so that it adds up over batches
and ranks and can be bootstrapped without counting an n-gram twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from unlearning.errors import ConfigError
from unlearning.metrics.words import split_words

BLEU_COLUMNS = 10
"""Matching 1- to 4-grams, all 1- to 4-grams, length of the hypothesis and of the target."""
MAX_ORDER = 4


def bleu_signature() -> str:
    """Returns sacrebleu's description of the settings that `bleu_from_statistics` uses."""
    bleu = BLEU()
    bleu.corpus_score(["a"], [["a"]])  # a signature exists only after a corpus has been seen
    return str(bleu.get_signature())


def bleu_statistics(hypotheses: Sequence[str], targets: Sequence[str]) -> NDArray[np.int64]:
    """Returns for each sentence the [n, 10] counts that corpus BLEU is made of; rows may be
    summed."""
    _same_length(hypotheses, targets)
    counter = BLEU(effective_order=True)  # touches the sentence score only, which is not used
    rows = np.zeros((len(hypotheses), BLEU_COLUMNS), dtype=np.int64)
    for row, hypothesis, target in zip(rows, hypotheses, targets, strict=True):
        score = counter.sentence_score(hypothesis, [target])
        row[:] = [*score.counts, *score.totals, score.sys_len, score.ref_len]
    return rows


def bleu_from_statistics(sums: Sequence[float] | NDArray[Any]) -> float:
    """Computes corpus BLEU, 0..100, from summed statistics; equal to `sacrebleu.corpus_bleu`.

    It is 0 where no hypothesis has four words, even if each equals its target.
    """
    counts = [int(count) for count in sums]
    score = BLEU.compute_bleu(
        correct=counts[:MAX_ORDER],
        total=counts[MAX_ORDER : 2 * MAX_ORDER],
        sys_len=counts[-2],
        ref_len=counts[-1],
        smooth_method="exp",
    )
    return float(score.score)


def bleu_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes `bleu_from_statistics` of each row of [m, 10]; NaN where a row holds NaN."""
    return np.array(
        [bleu_from_statistics(row) if np.isfinite(row).all() else np.nan for row in sums]
    )


def corpus_bleu(hypotheses: Sequence[str], targets: Sequence[str]) -> float:
    """Computes corpus BLEU, 0..100, with one target per hypothesis (sacrebleu's default
    settings)."""
    return bleu_from_statistics(bleu_statistics(hypotheses, targets).sum(axis=0))


@lru_cache(maxsize=8192)  # several metrics ask for the same pair
def rouge_l(hypothesis: str, target: str) -> float:
    """Computes ROUGE-L F1, 0..1: 2 P R / (P + R) of the longest common subsequence of words.

    Words are those of `split_words`, so that text outside ASCII counts too. Two texts without a
    word agree (1.0) where they are the same but for white space; one such text scores 0.

    Examples:
        >>> f"{rouge_l('the cat sat down', 'the cat sat'):.3f}"  # P = 3/4, R = 3/3
        '0.857'
    """
    said, wanted = split_words(hypothesis), split_words(target)
    if said == wanted:
        return float(bool(said) or hypothesis.split() == target.split())
    shared = 2 * common_subsequence(said, wanted)
    # an F1 of 7/10 shall reach a threshold of 0.7, however it is computed
    return round(shared / (len(said) + len(wanted)), 6)


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Returns the length of the longest common subsequence, computed a row of its table at a
    time as the bits of a number (Crochemore et al. 2001). On passages it is a hundred times as
    fast as the table that torchmetrics fills cell by cell; a test compares the two."""
    places: dict[Hashable, int] = {}
    for number, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << number
    everything = (1 << len(first)) - 1
    row = everything
    for item in second:
        matches = row & places.get(item, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(first) - row.bit_count()


def rouge_l_each(hypotheses: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    """Computes `rouge_l` of each pair, [n]."""
    _same_length(hypotheses, targets)
    pairs = zip(hypotheses, targets, strict=True)
    return np.array([rouge_l(hypothesis, target) for hypothesis, target in pairs])


def _same_length(hypotheses: Sequence[str], targets: Sequence[str]) -> None:
    if isinstance(hypotheses, str) or isinstance(targets, str):
        raise ConfigError("expected two lists of texts, got a single text: put it in a list.")
    if len(hypotheses) != len(targets):
        raise ConfigError(
            f"{len(hypotheses)} hypotheses for {len(targets)} targets; expected one "
            "target per hypothesis: pair them by prompt before scoring."
        )
