"""Kahneman-Tversky optimisation (KTO): forget answers are undesirable, retain answers may be
desirable.

    L = mean lambda (1 - v(x, y))
    v = sigmoid(beta (z0 - r)) of an undesirable answer, sigmoid(beta (r - z0)) of a desirable one
    r = log p_theta(y | x) - log p_ref(y | x), summed over the answer's tokens
    z0 = max(0, mean over mismatched pairs (x, y') of r(x, y')), without a gradient

(arXiv 2402.01306, Eq. 8.) lambda is the term's weight. z0 stands for KL(p_theta || p_ref), how far
the policy has moved at these prompts whatever the answer. The paper estimates it in the micro-batch
from answers that belong to other prompts; here these are the `mismatch` answers to the forget
prompts, drawn from the retain set. Since z0 is one number for a micro-batch, gradient accumulation
and ranks change it a little, where no other loss depends on them. A term of one role has z0 = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.losses import TokenLosses, needs, reduce_sequences
from unlearning.methods.dpo import check_beta, log_ratio
from unlearning.ranges import Positive


@needs("reference_nll")
def undesirable(
    answers: TokenLosses, mismatched: TokenLosses | None = None, beta: Positive = 0.1
) -> Tensor:
    """Computes 1 - sigmoid(beta (z0 - r)), the mean over answers that are to become less likely.

    It lies in 0..1, and is 1/2 where policy and reference agree. Sums over a sequence's tokens,
    whatever the declared reduction.

    Args:
        answers: to forget.
        mismatched: answers that belong to other prompts, from which z0 is estimated; None is
            z0 = 0.
        beta: how soon the value saturates; the larger, the sooner (the paper's risk aversion).

    Raises:
        ValueError: beta is not a number above 0, or no reference ran on these roles.

    Examples:
        >>> nll, one = torch.tensor([2.0]), torch.tensor([0])
        >>> answers = TokenLosses(nll, one, 1, reference_nll=torch.tensor([3.0]))  # r = 1
        >>> round(undesirable(answers, beta=1.0).item(), 4)  # sigmoid(1)
        0.7311
        >>> round(undesirable(answers, answers, beta=1.0).item(), 4)  # z0 = 1, too
        0.5
    """
    check_beta("kto.undesirable", beta)
    above_S = log_ratio(answers) - reference_point(mismatched)
    return reduce_sequences(torch.sigmoid(beta * above_S))  # 1 - sigmoid(-x) = sigmoid(x)


@needs("reference_nll")
def desirable(
    answers: TokenLosses, mismatched: TokenLosses | None = None, beta: Positive = 0.1
) -> Tensor:
    """Computes 1 - sigmoid(beta (r - z0)), the mean over answers that are to become likelier.

    Args:
        answers: to retain; see `undesirable`, as for all else.

    Raises:
        ValueError: as `undesirable`.

    Examples:
        >>> nll, one = torch.tensor([2.0]), torch.tensor([0])
        >>> answers = TokenLosses(nll, one, 1, reference_nll=torch.tensor([3.0]))  # r = 1
        >>> round(desirable(answers, beta=1.0).item(), 4)  # 1 - sigmoid(1)
        0.2689
    """
    check_beta("kto.desirable", beta)
    above_S = log_ratio(answers) - reference_point(mismatched)
    return reduce_sequences(torch.sigmoid(-beta * above_S))


def reference_point(mismatched: TokenLosses | None) -> Tensor | float:
    """Estimates z0 from mismatched pairs: their mean log-ratio in nats, at least 0, detached."""
    if mismatched is None:
        return 0.0
    return reduce_sequences(log_ratio(mismatched).detach()).clamp(min=0)
