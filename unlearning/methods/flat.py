"""Forget data only loss adjustment (FLAT) by the total variation, arXiv 2410.11143.

    L = -mean g(P(x, y_alternate)) + mean f*(g(P(x, y_forget)))
    g(v) = tanh(v) / 2, f*(u) = u: total variation, in the paper's table of divergences
    P(x, y) = mean over the answer's tokens of p_theta(token)

Minimising it raises a lower bound of the total variation between the template answers and the
answers to forget. It needs neither retain answers nor a reference.

Departure of the released code, which averages P over every position of a padded row, with zeros at
prompt and padding, so that it depends on how long the row is, and takes the tanh of the batch's
mean. Here P is over the answer's tokens, and the tanh of each answer, as in the formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.losses import TokenLosses, reduce_sequences


def flat(alternate: TokenLosses, forget: TokenLosses) -> Tensor:
    """Computes the total-variation loss: likely alternate answers, unlikely answers to forget.

    It lies between -tanh(1) / 2 and tanh(1) / 2 (0.38), and is 0 where both are as likely. The
    probabilities are averaged over a sequence's tokens, whatever the declared reduction. The
    gradient of a token is in proportion to its probability: of a forget answer that is unlikely
    already little is left to take, and an alternate answer that is still unlikely is slow to come.

    Examples:
        >>> one = torch.tensor([0, 0])
        >>> sure = TokenLosses(torch.zeros(2), one, 1)
        >>> half = TokenLosses(torch.tensor([0.0, torch.inf]), one, 1)
        >>> round(flat(sure, half).item(), 4)  # -tanh(1) / 2 + tanh(1/2) / 2
        -0.1497
    """
    winner, loser = (
        reduce_sequences(torch.tanh(tokens.per_sequence(torch.exp(-tokens.nll), "mean")) / 2)
        for tokens in (alternate, forget)
    )
    return loser - winner
