"""How much of a text a model knows by heart.

Two views. What it *says*: the longest run of characters or tokens that its completion shares with
the true text. What it *would* say, from one forward pass over the true text: at which tokens the
true one is its first choice, in all (exact memorisation) and without a miss up to the end
(extraction strength). BLEU falls when a model starts a passage differently; extraction strength
still sees that the rest comes word for word once somebody has typed the first sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric

from unlearning.errors import ConfigError


def longest_common_run(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest contiguous run of items that stands in both sequences."""
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
    """Characters of the longest passage that both texts share; case and white space count."""
    return longest_common_run(completion.strip(), target.strip())


def verbatim_words(completion: str, target: str) -> int:
    """Words of it, as white space separates them."""
    return longest_common_run(completion.split(), target.split())


def verbatim_tokens(
    completion: Sequence[int], target: Sequence[int], special: Collection[int] = ()
) -> int:
    """Tokens of it; `special` ones are no text and are left out of both."""
    ids = ([token for token in side if token not in special] for side in (completion, target))
    return longest_common_run(*ids)


def extraction_strength(suffix: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """suffix / tokens, 0..1, elementwise; NaN where there is no token.

    It is 1 - k / n, with k the length of the shortest true beginning after which greedy decoding
    gives the exact rest of all n tokens. Greedy decoding from there says the true text exactly
    where, given the true text, every further token is the model's first choice: those are the
    last n - k = `suffix` ones. Extraction by prefix is that of arXiv 2012.07805; the measure has
    its name in arXiv 2506.12618.
    """
    return _share(suffix, tokens)


def exact_memorisation(matches: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """matches / tokens, 0..1, elementwise; NaN where there is no token (arXiv 2205.10770).

    The share of tokens that are the model's first choice given the true text before them.
    """
    return _share(matches, tokens)


def _share(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    parts, wholes = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares = np.full(np.broadcast(parts, wholes).shape, np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


class VerbatimRun(Metric):
    """Mean over pairs of the longest shared passage, in characters; NaN where there was no pair."""

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    characters: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("characters", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, completions: Sequence[str], targets: Sequence[str]) -> None:
        pairs = list(zip(completions, targets, strict=True))
        self.characters += sum(verbatim_chars(said, true) for said, true in pairs)
        self.total += len(pairs)

    def compute(self) -> Tensor:
        return self.characters / self.total


class Memorisation(Metric):
    """Mean extraction strength and exact memorisation over texts, 0..1; NaN where there is none."""

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    extraction: Tensor
    exact: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("extraction", "exact"):
            zero = torch.tensor(0.0, dtype=torch.float64)
            self.add_state(name, zero, dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, matches: Tensor, suffix: Tensor, tokens: Tensor) -> None:
        """Add texts.

        Args:
            matches: [n] tokens that are the model's first choice.
            suffix: [n] how many of the last tokens are, without a miss.
            tokens: [n] tokens of each text.
        """
        if not matches.shape == suffix.shape == tokens.shape:
            raise ConfigError(
                f"matches have shape {tuple(matches.shape)}, suffixes {tuple(suffix.shape)}, token "
                f"counts {tuple(tokens.shape)}; expected one of each per text."
            )
        self.extraction += (suffix.double() / tokens).sum()
        self.exact += (matches.double() / tokens).sum()
        self.total += len(tokens)

    def compute(self) -> dict[str, Tensor]:
        return {
            "extraction_strength": self.extraction / self.total,
            "exact_memorisation": self.exact / self.total,
        }
