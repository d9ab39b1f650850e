"""Adaptive RMU, arXiv 2408.06223: RMU whose steering vector is as long as the state it replaces.

    L = mean |h_l - beta |h_l^ref| u|^2 on forget answers  +  alpha mean |h_l - h_l^ref|^2 on retain

RMU's length c must be found for each layer and model; here it is beta times the norm of the token's
own state in the model before unlearning. The rest is RMU. The authors' released code takes one
length for each topic, beta times the mean norm over its first batch, padding included.
"""

from __future__ import annotations

from torch import Tensor

from unlearning.losses import TokenLosses, needs
from unlearning.methods.rmu import direction, mean_square
from unlearning.ranges import Positive, Seed


@needs("hidden", "reference_hidden")
def steer_by_norm(tokens: TokenLosses, beta: Positive = 5.0, seed: Seed = 0) -> Tensor:
    """Computes the mean squared distance of the hidden states to a random vector, `beta` times as
    long as the reference's state of the token.

    Args:
        tokens: of the forget answers.
        beta: length of the steering vector, in norms of the reference's state.
        seed: of its direction.

    Raises:
        ValueError: beta is not positive.
    """
    if not beta > 0:
        raise ValueError(f"steer_by_norm: beta={beta} must be above 0.")
    assert tokens.hidden is not None and tokens.reference_hidden is not None
    states_ND = tokens.reference_hidden.to(tokens.hidden)
    lengths_N = beta * states_ND.norm(dim=-1, keepdim=True)
    target_ND = lengths_N * direction(states_ND.shape[-1], seed).to(states_ND)
    return tokens.reduce(mean_square(tokens.hidden - target_ND))
