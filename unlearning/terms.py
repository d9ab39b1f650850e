"""A weighted term of an objective: a loss, the answers it is computed on, and what it needs."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.losses import TokenLosses
from unlearning.probes import check_layer_loss, check_quantity, check_separable, check_value
from unlearning.quantities import Separable, TokenQuantity, declared
from unlearning.types import Role

LossFunction = Callable[..., Tensor]
ROLES: tuple[Role, ...] = ("forget", "alternate", "mismatch", "retain")
"""Those that the data of an unlearning draw."""
Layer = int | str
"""The number of a decoder block, counted from 0, or a module's path in the Hugging Face model."""


@dataclass
class Term:
    """A named, weighted loss on the answers of one role, or of several.

    Args:
        loss: `loss(tokens: TokenLosses, **options) -> scalar Tensor`, a token quantity (the term is
            its mean), or the import path of one. On several roles it takes as many TokenLosses.
        role: forget, alternate, mismatch or retain; a list of several, in the loss's order.
        weight: e1, e2, e3 of the paper; 0 leaves the term out.
        options: keyword arguments of the loss.
        layer: whose output `tokens.hidden` is: the number of a decoder block, counted from 0, or a
            module's path in the model.
        needs_reference: run the reference on its roles, for a loss that does not declare by itself
            what it needs (`unlearning.losses.needs`).

    Raises:
        ConfigError: a setting makes no sense, or what the loss declares is not true of it.
    """

    loss: str | LossFunction
    role: Role | Sequence[Role]
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    layer: Layer | None = None
    needs_reference: bool | None = None

    def __post_init__(self) -> None:
        self.roles: tuple[Role, ...] = (
            (self.role,) if isinstance(self.role, str) else tuple(self.role)  # type: ignore[assignment]
        )
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles or len(set(self.roles)) < len(self.roles):
            raise ConfigError(
                f"Unknown role {self.role!r}; choose one of {ROLES}, or a list of several."
            )
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ConfigError(
                f"A term's weight must be 0 or a positive number, got {self.weight}. Gradient "
                "ascent is in the loss's sign (gradient_ascent is minus the NLL), not the weight."
            )
        self.function = import_loss(self.loss) if isinstance(self.loss, str) else self.loss
        self.is_quantity: bool = declared(self.function, "token_quantity", False)
        self._check_options()
        self._declare()
        if self.weight > 0:
            self._probe()

    def _check_options(self) -> None:
        inputs = [None] * len(self.roles)
        if self.is_quantity:
            if len(self.roles) > 1:
                raise ConfigError(f"{self.loss} is a token quantity, and those have one role.")
            inputs = [None] * (3 if declared(self.function, "needs_reference") else 2)
        try:
            inspect.signature(self.function).bind(*inputs, **self.options)
        except TypeError as error:
            raise ConfigError(
                f"{self.loss} cannot take options {self.options}: {error}. Options of another loss "
                "are left behind by ~objective.<term>.options."
            ) from error

    def _declare(self) -> None:
        """Reads what the loss needs from its declarations."""
        self.needs: set[str] = set()
        quantities: list[TokenQuantity] = []
        separable = declared(self.function, "separable_in")
        self.separable_in: Separable | None = None
        if self.is_quantity:
            own = TokenQuantity.of(self.function, self.options)
            quantities.append(own)
            self.separable_in = own
        elif separable is not None:
            by_name = isinstance(separable, str)
            self.separable_in = separable if by_name else TokenQuantity.of(separable)
        for need in declared(self.function, "needs", frozenset()):
            if isinstance(need, str):
                self.needs.add(need)
            else:
                quantities.append(TokenQuantity.of(need))
        self.quantities = tuple(dict.fromkeys(quantities))
        wanted = bool(self.needs & {"kl", "reference_nll", "reference_hidden"})
        wanted |= any(quantity.needs_reference for quantity in self.quantities)
        # For losses that declare nothing; false beside one that needs the reference is no way out.
        self.needs_reference = wanted or bool(self.needs_reference)
        if bool(self.needs & {"hidden", "reference_hidden"}) != (self.layer is not None):
            raise ConfigError(
                f"{self.loss} and layer={self.layer!r} do not fit together: a term has a layer "
                "exactly where its loss declares @needs('hidden')."
            )

    def _probe(self) -> None:
        """Tests whether the declarations are true."""
        for quantity in self.quantities:
            check_quantity(quantity)
        if self.is_quantity:
            return
        name = str(self.loss)
        needs = self.needs | ({"reference"} if self.needs_reference else set())
        check_value(name, self, len(self.roles), needs, self.quantities)
        if self.in_layers:
            check_layer_loss(name, self, len(self.roles), needs)
        if self.separable_in is not None:
            check_separable(name, self, self.separable_in, needs, self.quantities)

    @property
    def in_layers(self) -> bool:
        """Whether it is a loss of hidden states, without the output head."""
        return self.layer is not None

    def __call__(self, *tokens: TokenLosses) -> Tensor:
        if self.is_quantity:
            return tokens[0].reduce(tokens[0][TokenQuantity.of(self.function, self.options)])
        return self.function(*tokens, **self.options)


def import_loss(path: str) -> LossFunction:
    """Imports a loss by its path, which may come from a configuration of somebody else's.

    It is called to test it, hence it has to be one: declared as a loss, or with a parameter of the
    type TokenLosses, or a plain function of no library.

    Raises:
        ConfigError: it is none of these.
    """
    function = import_object(path)
    hints = getattr(function, "__annotations__", {})
    takes = any("TokenLosses" in str(hint) for hint in hints.values())
    says = any(declared(function, name) for name in ("needs", "separable_in", "token_quantity"))
    plain = inspect.isfunction(function) and not _of_a_library(function)
    if not (takes or says or plain):
        raise ConfigError(
            f"{path} is no loss, and was not called: expected a function of TokenLosses. Declare "
            "yours with unlearning.losses.needs, or annotate its parameter as TokenLosses."
        )
    return function


def _of_a_library(function: Any) -> bool:
    """Whether a function is of Python's own modules or of an installed package."""
    package = function.__module__.partition(".")[0]
    installed = {"site-packages", "dist-packages"}
    return package in sys.stdlib_module_names or bool(
        installed & set(Path(function.__code__.co_filename).parts)
    )
