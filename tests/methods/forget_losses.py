"""What the tests of forget losses share: a module in fp64, held to a naive value and gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from naive import Pair, gradients, mean_of, mismatch_loss, relative_error, token_nlls
from torch import Tensor, nn

from unlearning.losses import TokenLosses
from unlearning.module import UnlearningModule

from .test_rmu import pairs


def held_to(
    naive: Callable[..., Tensor],
    forget: dict[str, Any],
    make_model: Callable[..., Any],
    make_data: Callable[..., Any],
    layout: str,
    reference: bool = False,
) -> None:
    """Checks value and gradient of a forget term, with a retain NLL beside it.

    Args:
        naive: of the policy and the batch's forget pairs, and with `reference` of that model.
        forget: the term's loss and options.
        reference: whether it needs the model before unlearning; the policy has moved away then.
    """
    retain = {"loss": "unlearning.losses.nll", "role": "retain", "weight": 0.7}
    terms = {"forget": {"role": "forget", "weight": 0.4, **forget}, "retain": retain}
    module = UnlearningModule(make_model(), terms, reference="copy").double()
    if reference:
        module.build_reference()
        before = copy.deepcopy(module.policy)
        with torch.no_grad():
            for parameter in module.policy.parameters():
                parameter.mul_(1.1)
    data = make_data(mismatch_per_prompt=0)
    data.setup()
    data.layout = layout
    batch = data.batch_at(1)
    found = module.loss(batch)
    others = (before,) if reference else ()
    expected = naive(module.policy, pairs(data, batch, "forget"), *others)
    assert found.terms["forget"].item() == pytest.approx(expected.item(), rel=1e-12)
    total = 0.4 * expected + 0.7 * mismatch_loss(
        module.policy, pairs(data, batch, "retain")
    )  # the mean NLL
    theirs = gradients(total, module.policy)
    assert relative_error(gradients(found.total, module.policy), theirs) < 1e-11


def weighted_ascent(weight: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The mean of weight(p) log p, the weight of the probability as it stands."""

    def loss(model: nn.Module, forget: list[Pair]) -> Tensor:
        values = []
        for pair in forget:
            log_p = -token_nlls(model, pair)
            weights = torch.stack([weight(p) for p in log_p.detach().exp()])
            values.append((weights * log_p).mean())
        return mean_of(values)

    return loss


def tokens_of(nll_N: list[float], sequence: list[int] | None = None) -> TokenLosses:
    """Answer tokens of these NLLs, of one sequence by default."""
    sequence = [0] * len(nll_N) if sequence is None else sequence
    values = torch.tensor(nll_N, dtype=torch.float64, requires_grad=True)
    return TokenLosses(values, torch.tensor(sequence), max(sequence) + 1)


def slope(loss: Tensor, tokens: TokenLosses) -> list[float]:
    """The gradient by the tokens' NLL."""
    return torch.autograd.grad(loss, tokens.nll)[0].tolist()
