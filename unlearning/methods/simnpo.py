"""Simple negative preference optimisation (SimNPO), arXiv 2410.07163.

    L = -(2 / beta) log sigma(-(beta / |y|) log pi(y|x) - gamma)

NPO without its reference model: a sequence counts by its mean NLL, so that long answers do not
weigh more, and the margin gamma says how unlikely it is to become. Released code has the margin
inside of the product, sigma(beta (NLL - delta)), which is the same with gamma = beta delta.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from unlearning.losses import TokenLosses, reduce_sequences
from unlearning.ranges import NotNegative, Positive


def simnpo(tokens: TokenLosses, beta: Positive = 2.5, gamma: NotNegative = 0.0) -> Tensor:
    """Computes a smooth bound on how likely forget answers are, by their mean NLL.

    2 / beta softplus(gamma - beta NLL) of each sequence, the mean over sequences; the mean over a
    sequence's tokens is the method's own, whatever the declared reduction. As beta falls with
    gamma = 0 its gradient becomes that of gradient ascent.

    Args:
        tokens: of the forget answers.
        beta: how soon a sequence that is unlikely counts less, in 1 / nats.
        gamma: margin; a sequence is forgotten once beta times its mean NLL is well above.

    Raises:
        ValueError: beta is not positive, or gamma negative.

    Examples:
        >>> import torch
        >>> tokens = TokenLosses(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), 1)
        >>> round(simnpo(tokens, beta=1.0).item(), 4)  # 2 log(1 + exp(-2))
        0.2539
    """
    if not (beta > 0 and gamma >= 0):
        raise ValueError(
            f"simnpo: beta={beta} must be above 0, and gamma={gamma} must not be negative."
        )
    nll_S = tokens.per_sequence(tokens.nll, "mean")
    return reduce_sequences(2 / beta * functional.softplus(gamma - beta * nll_S))
