"""UNDIAL, arXiv 2402.10052: distils the model into itself with the forget token's logit lowered.

    L = mean CE(softmax(z_ref - beta onehot(y)), p)

z_ref are the logits of the model before unlearning. The target is fixed and a distribution, so that
the loss has a lowest value and the other tokens keep their ratios.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.quantities import token_quantity
from unlearning.ranges import NotNegative


@token_quantity(needs_reference=True)
def undial(
    logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor, beta: NotNegative = 10.0
) -> Tensor:
    """Computes the cross-entropy to the reference's distribution with the token's logit lowered.

    Args:
        logits_NV: of the policy.
        targets_N: the forget answers' tokens.
        reference_NV: logits of the model before unlearning.
        beta: by how much the token's logit is lowered; 0 is distillation of what is there.

    Returns:
        [N] in nats.

    Raises:
        ValueError: beta is negative.

    Examples:
        >>> logits = torch.zeros(1, 3)  # a target of (0, 1/2, 1/2), where beta is large
        >>> round(undial(logits, torch.tensor([0]), logits, beta=100.0).item(), 4)  # log 3
        1.0986
    """
    if not beta >= 0:
        raise ValueError(f"undial: beta={beta} must not be negative.")
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    lowered_NV = reference_NV.to(wide).scatter_add(
        1, targets_N[:, None], torch.full_like(targets_N[:, None], -beta, dtype=wide)
    )
    log_p_NV = logits_NV.to(wide).log_softmax(-1)
    return -(lowered_NV.softmax(-1) * log_p_NV).sum(-1)
