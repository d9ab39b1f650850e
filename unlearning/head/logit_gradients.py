"""Values of a chunk of logits, and the gradients that overwrite them."""

from __future__ import annotations

import torch
from torch import Tensor


def nll_gradient_(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrites the logits with [N, V] d nll / d logits, and returns it with nll_N, for targets
    [N, 1]."""
    chosen = logits.gather(1, target).squeeze(1)
    p, total = _softmax_(logits)
    p.scatter_add_(1, target, p.new_full((1, 1), -1).expand_as(target))
    return p, total - chosen


def kl_gradient_(
    logits: Tensor, others: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Overwrites the logits with [N, V] d KL / d logits, and returns it with nll_N, kl_N and
    reference_nll_N.

    Args:
        others: the reference's logits; overwritten.
    """
    chosen, reference_chosen = (each.gather(1, target).squeeze(1) for each in (logits, others))
    difference = others - logits
    (p, total), (q, reference_total) = _softmax_(logits), _softmax_(others)
    # KL = sum q (log q - log p), whose logarithms are logits less one number a row.
    kl = torch.bmm(q[:, None], difference[:, :, None]).flatten() + total - reference_total
    return p.sub_(q), total - chosen, kl, reference_total - reference_chosen


def _softmax_(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrites the logits with probabilities, and returns them with the log-normaliser.

    The largest probability is at least 1/V, so that its logarithm is exact enough to go by."""
    top, at = logits.max(dim=1)
    p = torch.softmax(logits, dim=1, out=logits)
    return p, top - p.gather(1, at[:, None]).squeeze(1).log()


def through_cap_(gradient: Tensor, slope: Tensor | None) -> Tensor:
    """Overwrites the gradient by the logits with that by the products under their cap."""
    return gradient if slope is None else gradient.mul_(slope)
