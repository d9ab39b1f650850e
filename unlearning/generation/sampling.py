"""Samples tokens so that a prompt's draws depend on neither batch size nor other prompts.

`generate` of transformers draws for all rows of a batch at once, so that an answer would depend on
how many prompts the free memory holds. Here token t of prompt n is the inverse of the cumulative
distribution at a number that is a function of (seed, n, t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from unlearning.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling: temperature, nucleus and seed.

    Args:
        temperature: the logits are divided by it.
        top_p: of the distribution, the smallest set of most likely tokens with at least this
            probability (nucleus sampling, arXiv 1904.09751); 1 takes all.
        seed: of all draws.
        numbers: of the prompts, for their draws; None counts them from 0.

    Raises:
        ConfigError: the temperature is not above 0, or `top_p` not in (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ConfigError(
                f"temperature={self.temperature} must be above 0 and top_p={self.top_p} above 0 "
                "and at most 1."
            )

    def draws(self, places: Sequence[int], tokens: int) -> Tensor:
        """Returns uniform numbers [rows, tokens] in 0..1 for the prompts at these places."""
        numbers = places if self.numbers is None else [self.numbers[place] for place in places]
        rows = [np.random.default_rng([self.seed, number]).random(tokens) for number in numbers]
        return torch.from_numpy(np.stack(rows))


class Drawn(LogitsProcessor):
    """Logits processor that keeps the sampled token alone, so that greedy decoding takes it.

    Args:
        draws_BT: uniform numbers, see `Sampling.draws`.
        width: tokens of a prompt, with its padding.
    """

    def __init__(self, sampling: Sampling, draws_BT: Tensor, width: int) -> None:
        self.sampling, self.draws_BT, self.width = sampling, draws_BT, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        draws = self.draws_BT[:, input_ids.shape[1] - self.width].to(scores.device)
        chosen = drawn_tokens(scores, draws, self.sampling.temperature, self.sampling.top_p)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


def drawn_tokens(
    logits_BV: Tensor, draws_B: Tensor, temperature: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """Returns [B] the tokens at which the cumulative distributions pass the draws.

    Args:
        draws_B: in 0..1.

    Examples:
        >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(3, 3)
        >>> drawn_tokens(logits, torch.tensor([0.4, 0.6, 0.9])).tolist()
        [0, 1, 2]
        >>> drawn_tokens(logits, torch.tensor([0.4, 0.6, 0.9]), top_p=0.7).tolist()  # 5/8, 3/8
        [0, 0, 1]
    """
    probs = (logits_BV.double() / temperature).softmax(dim=-1)
    order = None
    if top_p < 1:
        probs, order = probs.sort(dim=-1, descending=True, stable=True)
        probs = probs.where(probs.cumsum(dim=-1) - probs < top_p, 0.0)
    total = probs.cumsum(dim=-1)
    # Of the whole as it was summed: a draw just below 1 is then still in it.
    place = torch.searchsorted(total, draws_B.double()[:, None] * total[:, -1:], right=True)
    last = (probs > 0).double().cumsum(dim=-1).argmax(dim=-1, keepdim=True)  # the last possible
    place = torch.minimum(place, last)
    return (place if order is None else order.gather(1, place))[:, 0]
