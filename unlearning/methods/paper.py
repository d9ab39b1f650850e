"""The method of arXiv 2405.15152.

    theta <- theta - e1 grad L_fgt - e2 grad L_rdn - e3 grad L_nor      (Eq. 1)

Read as code, with one forward for all three:

    L = e1 * L_fgt(forget) + e2 * L_rdn(mismatch) + e3 * L_nor(retain)
    theta <- theta - lr * dL/dtheta
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unlearning.losses import TokenLosses, gradient_ascent, kl_to_reference, random_mismatch
from unlearning.objective import PAPER_TERMS

E1, E2, E3 = (PAPER_TERMS[name]["weight"] for name in ("forget", "mismatch", "retain"))


def paper_loss(
    forget: TokenLosses,
    mismatch: TokenLosses,
    retain: TokenLosses,
    e1: float = E1,
    e2: float = E2,
    e3: float = E3,
) -> Tensor:
    """Computes the loss that a step of the paper descends, on the answers of the three roles
    (Eq. 1)."""
    l_fgt = gradient_ascent(forget)  # minus the NLL of the answers to forget
    l_rdn = random_mismatch(mismatch)  # NLL of K irrelevant answers to the same prompts
    l_nor = kl_to_reference(retain)  # forward KL from the frozen reference on answers to keep
    return e1 * l_fgt + e2 * l_rdn + e3 * l_nor


def paper_terms(e1: float = E1, e2: float = E2, e3: float = E3) -> dict[str, dict[str, Any]]:
    """Returns the same as named terms for `UnlearningModule(terms=...)`: each is logged, and
    each is differentiated in one pass over the output head."""
    weights = {"forget": e1, "mismatch": e2, "retain": e3}
    return {name: {**term, "weight": weights[name]} for name, term in PAPER_TERMS.items()}
