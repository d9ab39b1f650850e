"""Saturation and importance weighted ascent (SatImp), arXiv 2505.11953.

    L = mean p^beta1 (1 - p)^beta2 log p,    the weight without a gradient

p^beta1 lets go of what is forgotten already (saturation), (1 - p)^beta2 of what a model says
whatever it was taught, such as the rest of a word (importance).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.losses import TokenLosses, separable_in
from unlearning.ranges import NotNegative


@separable_in("nll")
def satimp(tokens: TokenLosses, beta1: NotNegative = 5.0, beta2: NotNegative = 1.0) -> Tensor:
    """Computes gradient ascent with each token weighted by p^beta1 (1 - p)^beta2.

    Args:
        tokens: of the forget answers.
        beta1: exponent of the token's probability; 0 leaves saturation out.
        beta2: exponent of what is left to 1; 0 leaves importance out.

    Raises:
        ValueError: an exponent is negative.

    Examples:
        >>> import math
        >>> nll = torch.tensor([math.log(2.0)])  # p = 1/2
        >>> tokens = TokenLosses(nll, torch.tensor([0]), 1)
        >>> round(satimp(tokens).item() / math.log(2.0), 4)  # -(1/2)^5 (1/2)
        -0.0156
    """
    if not (beta1 >= 0 and beta2 >= 0):
        raise ValueError(f"satimp: beta1={beta1} and beta2={beta2} must not be negative.")
    nll_N = tokens.nll.detach()
    weight_N = (-beta1 * nll_N).exp() * (-torch.expm1(-nll_N)).clamp(min=0) ** beta2
    return -tokens.reduce(weight_N * tokens.nll)
