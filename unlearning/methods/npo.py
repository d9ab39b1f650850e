"""Negative preference optimisation (NPO), arXiv 2404.05868.

    L = (2 / beta) mean log(1 + (p_theta(y | x) / p_ref(y | x))^beta)

(Eq. 3.) It is DPO with the answer to forget as the loser and no winner: where the policy has moved
away from the reference, an answer counts less, which plain ascent never does. As beta falls its
gradient becomes that of gradient ascent.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from unlearning.losses import TokenLosses, needs, reduce_sequences
from unlearning.methods.dpo import check_beta, log_ratio
from unlearning.ranges import Positive


@needs("reference_nll")
def npo(tokens: TokenLosses, beta: Positive = 0.1) -> Tensor:
    """Makes forget answers less likely than under the reference, the less the further they are.

    (2 / beta) softplus(beta (S_ref - S)) of each sequence with S its summed NLL, the mean over
    sequences. Sums over a sequence's tokens, as its paper does, whatever the declared reduction.

    Args:
        tokens: of the forget answers.
        beta: how soon an answer that is less likely than under the reference counts less.

    Raises:
        ValueError: beta is not a number above 0, or no reference ran on this role.

    Examples:
        >>> import torch
        >>> same = torch.tensor([2.0])  # policy and reference agree: 2 / beta * log 2
        >>> tokens = TokenLosses(same, torch.tensor([0]), 1, reference_nll=same)
        >>> round(npo(tokens, beta=2.0).item(), 4)
        0.6931
    """
    check_beta("npo", beta)
    return reduce_sequences(2 / beta * functional.softplus(beta * log_ratio(tokens)))
