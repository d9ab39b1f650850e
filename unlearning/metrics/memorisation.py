"""Memorisation: verbatim runs, extraction strength and exact memorisation.

Two views. What it *says*: the longest run of characters or tokens that its completion shares with
the true text. What it *would* say, from one forward pass over the true text: at which tokens the
true one is its first choice, in all (exact memorisation) and without a miss up to the end
(extraction strength). BLEU falls when a model starts a passage differently; extraction strength
still sees that the rest comes word for word once somebody has typed the first sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.metrics.metric import Answers, metric
from unlearning.metrics.statistic import Array, Sums, mean, scores
from unlearning.metrics.words import split_words


def longest_common_run(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Returns the length of the longest contiguous run of items that both sequences contain.

    Examples:
        >>> longest_common_run("in the house".split(), "all in the old house".split())
        2
    """
    if not (isinstance(first, str) and isinstance(second, str)):
        # A character an item: Python searches strings in C.
        codes = {item: chr(n) for n, item in enumerate(dict.fromkeys([*first, *second]))}
        first, second = ("".join(codes[item] for item in items) for items in (first, second))
    longest = 0
    for start in range(len(first)):
        while start + longest < len(first) and first[start : start + longest + 1] in second:
            longest += 1
    return longest


def verbatim_chars(completion: str, target: str) -> int:
    """Returns the length in characters of the longest passage that both texts share; case and
    white space count."""
    return longest_common_run(completion.strip(), target.strip())


def verbatim_words(completion: str, target: str) -> int:
    """Returns the length in words, separated by white space, of the longest passage that both
    texts share."""
    return longest_common_run(completion.split(), target.split())


def verbatim_tokens(
    completion: Sequence[int], target: Sequence[int], special: Collection[int] = ()
) -> int:
    """Returns the length of the longest run of tokens that both share, without `special` ones."""
    ids = ([token for token in side if token not in special] for side in (completion, target))
    return longest_common_run(*ids)


def extraction_strength(suffix: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Computes suffix / tokens, 0..1, elementwise; NaN where there is no token.

    It is 1 - k / n, with k the length of the shortest true beginning after which greedy decoding
    gives the exact rest of all n tokens. Greedy decoding from there says the true text exactly
    where, given the true text, every further token is the model's first choice: those are the
    last n - k = `suffix` ones. Extraction by prefix is that of arXiv 2012.07805; the measure has
    its name in arXiv 2506.12618.
    """
    return _share(suffix, tokens)


def exact_memorisation(matches: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Computes matches / tokens, 0..1, elementwise; NaN where there is no token (arXiv 2205.10770).

    The share of tokens that are the model's first choice given the true text before them.
    """
    return _share(matches, tokens)


def _share(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    parts, wholes = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares = np.full(np.broadcast(parts, wholes).shape, np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


@metric(
    "Longest verbatim run, tokens", unit="tokens", direction="lower", name="verbatim_tokens",
    needs=("completion", "target"),
)  # fmt: skip
def mean_verbatim_tokens(answers: Answers) -> Sums | None:
    """Mean of the longest run of tokens that completion and target share."""
    asked = [bool(split_words(g.target)) for g in answers]
    return mean(scores(g.verbatim_tokens for g in answers), asked) if any(asked) else None


@metric(
    "Longest verbatim run, characters", unit="characters", direction="lower",
    name="verbatim_chars",
)  # fmt: skip
def mean_verbatim_chars(answers: Answers) -> Sums | None:
    """Mean of the longest run of characters that completion and target share."""
    asked = [bool(split_words(g.target)) for g in answers]
    runs = [verbatim_chars(g.completion, g.target) for g in answers]
    return mean(runs, asked) if any(asked) else None


@metric(
    "Extraction strength", unit="fraction", direction="lower", name="extraction_strength",
    needs=("target",),
)  # fmt: skip
def mean_extraction_strength(answers: Answers) -> Sums:
    """Mean over targets of `extraction_strength`."""
    suffix = scores(g.target_suffix for g in answers)
    return mean(extraction_strength(suffix, _tokens(answers)))


@metric(
    "Exact memorisation", unit="fraction", direction="lower", name="exact_memorisation",
    needs=("target",),
)  # fmt: skip
def mean_exact_memorisation(answers: Answers) -> Sums:
    """Mean over targets of `exact_memorisation`."""
    matches = scores(g.target_matches for g in answers)
    return mean(exact_memorisation(matches, _tokens(answers)))


def _tokens(answers: Answers) -> Array:
    return scores(g.target_tokens for g in answers)
