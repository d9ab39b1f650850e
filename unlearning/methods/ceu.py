"""Cross-entropy unlearning (CE-U), arXiv 2503.01224.

    L = mean CE(sg softmax(z with z_y = -inf), p)

The target is the model's own distribution without the token, as it stands, so that there is no
reference; the loss is 0 where the token has no probability and the rest is certain. As in the
authors' code the first token of an answer is left out, at which an answer has not parted from
others yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.losses import TokenLosses, reduce_sequences, separable_in
from unlearning.quantities import token_quantity
from unlearning.ranges import Whole


@token_quantity()
def cross_entropy_without(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Computes the cross-entropy to the model's own distribution without the target token, [N] in
    nats; the target has no gradient.

    Examples:
        >>> logits = torch.zeros(1, 3)  # a target of (0, 1/2, 1/2)
        >>> round(cross_entropy_without(logits, torch.tensor([0])).item(), 4)  # log 3
        1.0986
    """
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    without_NV = logits_NV.detach().scatter(1, targets_N[:, None], -torch.inf)
    return -(without_NV.softmax(-1) * logits_NV.log_softmax(-1)).sum(-1)


@separable_in(cross_entropy_without)
def ceu(tokens: TokenLosses, skip_first: Whole = 1) -> Tensor:
    """Computes the mean cross-entropy to the model's own distribution without the forget tokens.

    Over each sequence's tokens, then over sequences.

    Args:
        tokens: of the forget answers.
        skip_first: tokens at each answer's beginning that do not count. An answer that has no other
            counts as 0.

    Raises:
        ValueError: skip_first is negative.
    """
    if skip_first < 0:
        raise ValueError(f"ceu: skip_first={skip_first} must not be negative.")
    counts_N = (place_in_sequence(tokens.sequence, tokens.num_sequences) >= skip_first).to(
        tokens.nll
    )
    sums_S = tokens.per_sequence(tokens[cross_entropy_without] * counts_N, "sum")
    if tokens.reduction == "sum":
        return reduce_sequences(sums_S)
    return reduce_sequences(sums_S / tokens.per_sequence(counts_N, "sum").clamp(min=1))


def place_in_sequence(sequence_N: Tensor, num_sequences: int) -> Tensor:
    """Returns each token's place in its answer, [N] from 0; an answer's tokens are in order."""
    order_N = sequence_N.argsort(stable=True)
    sizes_S = sequence_N.bincount(minlength=num_sequences)
    starts_S = sizes_S.cumsum(0) - sizes_S
    place_N = torch.empty_like(order_N)
    place_N[order_N] = torch.arange(len(order_N), device=order_N.device)
    return place_N - starts_S[sequence_N]
