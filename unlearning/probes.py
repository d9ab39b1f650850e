"""Tests the declarations of losses and token quantities on a few made-up tokens.

What a function declares decides how its gradient is made; a wrong declaration would be a wrong
gradient. So it is tried, and refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses
from unlearning.quantities import Separable, TokenQuantity

Loss = Callable[..., Tensor]
SEQUENCES = (0, 0, 0, 1, 1, 2)
"""Of the six tokens on which a loss is probed."""
SCALES = (0.1, 3.0, 30.0)
"""Of their NLL and KL, so that both sides of a cap are tried."""
FAILURES = (
    AssertionError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, KeyError,
)  # fmt: skip


VOCABULARIES = (11, 2**18)
"""Logits a quantity is probed on; the large one where it names a token, or takes the top 100."""


def check_quantity(quantity: TokenQuantity) -> None:
    """Probes a quantity on few logits, and where it fails on them on many; see `probe_quantity`."""
    try:
        probe_quantity(quantity, VOCABULARIES[0])
    except ConfigError as error:
        of_data = isinstance(error.__cause__, FAILURES)
        if not of_data or isinstance(error.__cause__, ConfigError):
            raise
        probe_quantity(quantity, VOCABULARIES[1])


def probe_quantity(quantity: TokenQuantity, vocabulary: int) -> None:
    """Checks that every row of a quantity depends on its own logits alone, and is differentiable.

    Raises:
        ConfigError: it mixes rows, has no gradient, or fails on plain logits.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (4, vocabulary)
    logits, others = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in "ab")
    targets = torch.tensor([1, 3, 3, 7])
    reference = others if quantity.needs_reference else None
    with torch.enable_grad():
        leaf = logits.clone().requires_grad_()
        try:
            values = quantity(leaf, targets, reference)
            (gradient,) = torch.autograd.grad(values[1], leaf, allow_unused=True)
        except FAILURES as error:
            raise ConfigError(
                f"The token quantity {quantity.function!r} fails on logits of shape {shape}: "
                f"{error}. It is called as quantity(logits_NV, targets_N"
                f"{', reference_logits_NV' * quantity.needs_reference}"
                f"{', **options' * bool(quantity.options)}); declare needs_reference=True where it "
                "takes the reference's logits."
            ) from error
    rows = torch.arange(4) != 1
    moved = others.clone()
    moved[1] = logits[1]
    alone = quantity(moved, targets, None if reference is None else reference.roll(0))[1]
    mixes = gradient is not None and bool((gradient[rows] != 0).any())
    if mixes or not torch.allclose(alone, values[1].detach(), rtol=1e-9, atol=1e-12):
        raise ConfigError(
            f"The token quantity {quantity.function!r} mixes positions: a row's value must depend "
            "on its own logits alone. Join tokens in a loss, with TokenLosses.reduce."
        )


def check_value(
    name: str, loss: Loss, roles: int, needs: Collection[str], quantities: Sequence[TokenQuantity]
) -> None:
    """Checks that a loss finds what it reads, and returns one number.

    Args:
        needs: what it declares: fields of `TokenLosses`, and `reference` where one runs.

    Raises:
        ConfigError: it fails, or returns something else.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = [draw_tokens(needs, quantities, SCALES[0], generator) for _ in range(roles)]
    try:
        value = loss(*tokens)
    except FAILURES as error:
        raise ConfigError(
            f"{name} fails on made-up tokens: {type(error).__name__}: {error} It is given what it "
            "declares with @needs(...), see unlearning.losses, and None for everything else."
        ) from error
    if not isinstance(value, Tensor) or value.shape != ():
        raise ConfigError(f"{name} returned {value!r}; expected a tensor of shape ().")


def check_separable(
    name: str,
    loss: Loss,
    quantity: Separable,
    needs: Collection[str],
    quantities: Sequence[TokenQuantity],
) -> None:
    """Checks that a token's slope stays when all others, and all other quantities, are drawn anew.

    Raises:
        ConfigError: it does not, so that the loss is not separable in the quantity.
    """
    generator = torch.Generator().manual_seed(1)
    told = quantity if isinstance(quantity, str) else quantity.function
    wrong = ConfigError(
        f"{name} is declared separable in {told!r}, and what one token changes in it depends on "
        "other tokens or on other quantities. Take the declaration off: the loss is then "
        "differentiated in two passes, and rightly."
    )
    for scale in SCALES:
        tokens, other = (draw_tokens(needs, quantities, scale, generator) for _ in "ab")
        named: list[Separable] = ["nll"] if tokens.kl is None else ["nll", "kl"]
        for elsewhere in [*named, *quantities]:
            if elsewhere != quantity and bool(slopes(loss, tokens, elsewhere).any()):
                raise wrong
        before = slopes(loss, tokens, quantity)
        for number in range(len(SEQUENCES)):
            values = get_values(other, quantity).detach().clone()
            values[number] = get_values(tokens, quantity)[number]
            after = slopes(loss, with_values(other, quantity, values), quantity)
            if not torch.allclose(before[number], after[number], rtol=1e-9, atol=1e-12):
                raise wrong


def check_layer_loss(name: str, loss: Loss, roles: int, needs: Collection[str]) -> None:
    """Probes that a loss of hidden states is no loss of the NLL, too: that takes no gradient there.

    Raises:
        ConfigError: it is.
    """
    generator = torch.Generator().manual_seed(2)
    tokens = [draw_tokens(needs, (), SCALES[0], generator) for _ in range(roles)]
    nlls = [each.nll.requires_grad_() for each in tokens]
    with torch.enable_grad():
        value = loss(*tokens)
        found = (
            (None,)
            if not value.requires_grad
            else torch.autograd.grad(value, nlls, allow_unused=True)
        )
    if any(gradient is not None and bool(gradient.any()) for gradient in found):
        raise ConfigError(
            f"{name} needs hidden states and looks at the NLL as well, which has no gradient in a "
            "term with a layer. Make two terms of it."
        )


def draw_tokens(
    needs: Collection[str],
    quantities: Sequence[TokenQuantity],
    scale: float,
    generator: torch.Generator,
) -> TokenLosses:
    """Draws six made-up tokens of three sequences, in fp64."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) * scale + 0.01

    n, last = len(SEQUENCES), SEQUENCES[-1] + 1
    in_layers = bool({"hidden", "reference_hidden"} & set(needs))
    logits: Any = "reference" in needs and not in_layers
    return TokenLosses(
        draw(n),
        torch.tensor(SEQUENCES),
        last,
        kl=draw(n) if logits else None,
        reference_nll=draw(n) if logits else None,
        values={quantity: draw(n) for quantity in quantities},
        prompt=torch.arange(last),
        hidden=draw(n, 8) if in_layers else None,
        reference_hidden=draw(n, 8) if "reference_hidden" in needs else None,
    )


def slopes(loss: Loss, tokens: TokenLosses, quantity: Separable) -> Tensor:
    """Computes [N], the derivative of a loss by each token's value of a quantity."""
    with torch.enable_grad():
        values = get_values(tokens, quantity).detach().requires_grad_()
        value = loss(with_values(tokens, quantity, values))
        if not value.requires_grad:
            return torch.zeros_like(values)
        (found,) = torch.autograd.grad(value, values, allow_unused=True)
    return torch.zeros_like(values) if found is None else found


def get_values(tokens: TokenLosses, quantity: Separable) -> Tensor:
    """Returns the values [N] of a quantity."""
    found = getattr(tokens, quantity) if isinstance(quantity, str) else tokens[quantity]
    assert isinstance(found, Tensor), quantity
    return found


def with_values(tokens: TokenLosses, quantity: Separable, values_N: Tensor) -> TokenLosses:
    """Returns the tokens with other values of a quantity."""
    if isinstance(quantity, str):
        return replace(tokens, **{quantity: values_N})  # type: ignore[arg-type]
    return replace(tokens, values={**tokens.values, quantity: values_N})
