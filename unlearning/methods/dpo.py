"""Direct preference optimisation (DPO) of another answer over the one to forget.

    L = -(2 / beta) mean log sigmoid(beta (r(alternate) - r(forget)))
    r(y) = log p_theta(y | x) - log p_ref(y | x), summed over the answer's tokens

(arXiv 2305.18290, Eq. 7, with the answer to forget as the loser.) The winner is a refusal in TOFU's
IdkDPO (arXiv 2401.06121), or another plausible answer, of which a prompt may have several (AltPO,
arXiv 2409.13474); each of them is a pair with the answer to forget.

The factor 2 / beta is not in Eq. 7. With it, as in NPO (arXiv 2404.05868), the gradient does not
vanish with beta: for beta -> 0 it is that of NLL(alternate) - NLL(forget).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.losses import TokenLosses, needs, reduce_sequences
from unlearning.ranges import Positive


@needs("reference_nll")
def dpo(alternate: TokenLosses, forget: TokenLosses, beta: Positive = 0.1) -> Tensor:
    """Prefers the alternate answers of each prompt over its answer to forget (Eq. 7, times
    2 / beta).

    Sums over a sequence's tokens, as its paper does, whatever the declared reduction.

    Args:
        alternate: the winners; as many for each prompt as there are.
        forget: the losers, one for each prompt.
        beta: how far from the reference the preference may lead; the smaller, the further.

    Raises:
        ValueError: beta is not a number above 0, no reference ran on these roles, or it is not
            known which prompts the answers are to.

    Examples:
        >>> nll, one = torch.tensor([2.0]), torch.tensor([0])
        >>> same = TokenLosses(nll, one, 1, reference_nll=nll, prompt=one)
        >>> round(dpo(same, same, beta=2.0).item(), 4)  # 2 / beta * log 2
        0.6931
    """
    check_beta("dpo", beta)
    if alternate.prompt is None or forget.prompt is None:
        raise ValueError("dpo pairs answers to the same prompt, and tokens.prompt is None.")
    # Every alternate answer stands in a batch with the forget answer to its prompt.
    order_S = forget.prompt.argsort()
    loser_S = order_S[torch.searchsorted(forget.prompt[order_S], alternate.prompt)]
    margin_S = log_ratio(alternate) - log_ratio(forget)[loser_S]
    return reduce_sequences(-2 / beta * functional.logsigmoid(beta * margin_S))


def log_ratio(tokens: TokenLosses) -> Tensor:
    """Computes log p_theta(y | x) - log p_ref(y | x) of each answer, [S], in nats.

    Raises:
        ValueError: no reference ran on this role.
    """
    if tokens.reference_nll is None:
        raise ValueError("The log-ratio needs a reference, and tokens.reference_nll is None.")
    return tokens.per_sequence(tokens.reference_nll - tokens.nll, "sum")


def check_beta(name: str, beta: float) -> None:
    """Checks that beta is a number above 0.

    Raises:
        ValueError: it is not.
    """
    if not (beta > 0 and math.isfinite(beta)):
        raise ValueError(f"{name}: beta={beta} must be a number above 0; the paper's is 0.1.")
