"""Token quantities: functions of one position's logits, and the reference's, that losses are made
of.

A quantity is a plain function of the logits at N positions,

    quantity(logits_NV, targets_N[, reference_logits_NV], **options) -> values_N

whose row n depends on row n alone. It is computed chunk by chunk from hidden states and output
head, and so is its gradient, so that no [B, T, V] tensor exists. NLL and KL are two such functions
with passes of their own (`unlearning.head`); they are named by the strings `nll` and `kl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from unlearning.errors import ConfigError

QuantityFunction = Callable[..., Tensor]
F = TypeVar("F", bound=QuantityFunction)


def token_quantity(needs_reference: bool = False) -> Callable[[F], F]:
    """Declares a function of one position's logits as a token quantity.

    A term whose `loss` is a token quantity is the mean of it, over a sequence's tokens and then
    over sequences, made in one pass over the output head.

    Args:
        needs_reference: the function takes the reference's logits as its third argument.

    Examples:
        >>> import torch
        >>> @token_quantity()
        ... def entropy(logits_NV, targets_N):
        ...     log_p = logits_NV.log_softmax(-1)
        ...     return -(log_p.exp() * log_p).sum(-1)
        >>> round(entropy(torch.zeros(1, 4), torch.tensor([0])).item(), 4)  # log 4
        1.3863
    """

    def declare(function: F) -> F:
        function.token_quantity = True  # type: ignore[attr-defined]
        function.needs_reference = needs_reference  # type: ignore[attr-defined]
        return function

    return declare


def declared(function: Any, name: str, default: Any = None) -> Any:
    """Returns what a decorator has noted on a function, also on the one inside a
    `functools.partial`."""
    while isinstance(function, partial) and not hasattr(function, name):
        function = function.func
    return getattr(function, name, default)


@dataclass(frozen=True)
class TokenQuantity:
    """A quantity function with its options, as a key of values by quantity.

    Args:
        function: declared with `token_quantity`.
        options: its keyword arguments, as sorted pairs.
    """

    function: QuantityFunction
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(
        cls, function: QuantityFunction, options: Mapping[str, Any] | None = None
    ) -> TokenQuantity:
        plain = {n: tuple(v) if isinstance(v, list) else v for n, v in (options or {}).items()}
        return cls(function, tuple(sorted(plain.items())))

    @property
    def needs_reference(self) -> bool:
        return bool(declared(self.function, "needs_reference", False))

    def __call__(self, logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor | None) -> Tensor:
        """Computes values_N.

        Raises:
            ConfigError: the function returns something else than a value for each position.
        """
        inputs = (logits_NV, targets_N)
        if self.needs_reference:
            assert reference_NV is not None, self.function
            inputs = (*inputs, reference_NV)  # type: ignore[assignment]
        values_N = self.function(*inputs, **dict(self.options))
        if values_N.shape != targets_N.shape:
            raise ConfigError(
                f"The token quantity {self.function!r} returned shape {tuple(values_N.shape)} for "
                f"{len(targets_N)} positions; expected one value for each."
            )
        return values_N


Separable = str | TokenQuantity
"""What the tokens of a loss count by, each by itself: `nll`, `kl` or a token quantity."""
