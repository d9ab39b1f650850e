"""Maximum entropy with gradient descent (ME+GD), arXiv 2410.08109.

L = alpha mean KL(uniform || p)  +  mean NLL(retain answers)

"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unlearning.quantities import token_quantity


@token_quantity()
def kl_from_uniform(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Computes KL(uniform || p) = -log V - mean over the vocabulary of log p, [N] in nats.

    Examples:
        >>> kl_from_uniform(torch.zeros(1, 4), torch.tensor([0])).item()
        0.0
        >>> p = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.7, 0.1, 0.1, 0.1]])
        >>> round(kl_from_uniform(p.log(), torch.tensor([0, 0]))[1].item(), 4)
        0.4298
    """
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    log_p_NV = logits_NV.to(wide).log_softmax(-1)
    return -log_p_NV.mean(-1) - math.log(logits_NV.shape[-1])
