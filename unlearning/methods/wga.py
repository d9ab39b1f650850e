"""Weighted gradient ascent (WGA), arXiv 2502.19301.

    L = mean p^beta log p,    the weight p^beta without a gradient

A token that is unlikely already counts less, so that ascent slows down by itself where plain
ascent speeds up: the gradient of a token's log p by its logit grows as p falls.
"""

from __future__ import annotations

from torch import Tensor

from unlearning.losses import TokenLosses, separable_in
from unlearning.ranges import NotNegative


@separable_in("nll")
def wga(tokens: TokenLosses, beta: NotNegative = 1.0) -> Tensor:
    """Computes gradient ascent with each token weighted by its probability to the power beta.

    Args:
        tokens: of the forget answers.
        beta: the exponent; 0 is gradient ascent.

    Raises:
        ValueError: beta is negative.

    Examples:
        >>> import math, torch
        >>> nll = torch.tensor([math.log(2.0), math.log(4.0)])  # p = 1/2 and 1/4
        >>> tokens = TokenLosses(nll, torch.tensor([0, 0]), 1)
        >>> round(wga(tokens).item() / math.log(2.0), 4)  # -(1/2 + 2/4) / 2
        -0.5
    """
    if not beta >= 0:
        raise ValueError(f"wga: beta={beta} must not be negative.")
    weight_N = (-beta * tokens.nll.detach()).exp()
    return -tokens.reduce(weight_N * tokens.nll)
