"""Inverted hinge loss (IHL), arXiv 2408.06621, the forget term of LoKU.

    L = mean (1 + p_y - max_{v != y} p_v)

It lowers the token's probability against its strongest rival's alone, and lies between 0 and 2, so
that it does not push on a token that another has overtaken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearning.quantities import token_quantity


@token_quantity()
def inverted_hinge(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Computes 1 + p of the token - p of the likeliest other token, [N], between 0 and 2.

    Examples:
        >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
        >>> round(inverted_hinge(logits, torch.tensor([0])).item(), 4)  # 1 + .5 - .3
        1.2
    """
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    p_NV = logits_NV.to(wide).softmax(-1)
    mine_N = p_NV.gather(1, targets_N[:, None]).squeeze(1)
    rival_N = p_NV.scatter(1, targets_N[:, None], -1.0).amax(-1)
    return 1 + mine_N - rival_N
