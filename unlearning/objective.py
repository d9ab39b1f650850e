"""The weighted sum of named terms that a step descends.

    theta <- theta - e1 grad L_fgt - e2 grad L_rdn - e3 grad L_nor      (arXiv 2405.15152, Eq. 1)

`PAPER_TERMS` is that, with the paper's weights. A term is a plain mapping, so that it fits in YAML
and in a checkpoint; its loss is a function of `TokenLosses`, given as an import path or a callable.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.losses import Quantity, TokenLosses
from unlearning.types import Role

LossFunction = Callable[..., Tensor]

PAPER_TERMS: dict[str, dict[str, Any]] = {
    "forget": {
        "loss": "unlearning.losses.gradient_ascent",
        "role": "forget",
        "weight": 0.5,
    },
    "mismatch": {
        "loss": "unlearning.losses.random_mismatch",
        "role": "mismatch",
        "weight": 1.0,
    },
    "retain": {
        "loss": "unlearning.losses.kl_to_reference",
        "role": "retain",
        "weight": 1.0,
        "needs_reference": True,
    },
}


@dataclass
class Term:
    """One named, weighted loss on the answers of one role.

    Args:
        loss: `loss(tokens: TokenLosses, **options) -> scalar Tensor`, or its import path.
        role: forget, mismatch or retain.
        weight: e1, e2, e3 of the paper; 0 leaves the term out.
        options: keyword arguments of the loss.
        needs_reference: run the reference on this role.
    """

    loss: str | LossFunction
    role: Role
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    needs_reference: bool = False

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ConfigError(f"Unknown role {self.role!r}; choose one of {get_args(Role)}.")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ConfigError(
                f"A term's weight must be 0 or a positive number, got {self.weight}. Gradient "
                "ascent is in the loss's sign (gradient_ascent is minus the NLL), not the weight."
            )
        self.function = import_object(self.loss) if isinstance(self.loss, str) else self.loss
        try:
            inspect.signature(self.function).bind(None, **self.options)
        except TypeError as error:
            raise ConfigError(
                f"{self.loss} cannot take options {self.options}: {error}."
            ) from error

    def __call__(self, tokens: TokenLosses) -> Tensor:
        return self.function(tokens, **self.options)

    @property
    def separable_in(self) -> Quantity | None:
        """The quantity by which every token counts by itself, where the loss declares that."""
        return getattr(self.function, "separable_in", None)


class Objective:
    """Named terms; those of weight 0 are left out.

    Args:
        terms: name -> mapping with the arguments of `Term`.

    Raises:
        ConfigError: no term has a weight, or a term is not well-formed.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        self.terms: dict[str, Term] = {}
        for name, settings in terms.items():
            try:
                term = Term(**settings)
            except TypeError as error:
                known = ", ".join(Term.__dataclass_fields__)
                raise ConfigError(f"Term {name!r}: {error}; a term takes {known}.") from error
            if term.weight > 0:
                self.terms[name] = term
        if not self.terms:
            raise ConfigError(
                f"All weights are 0 ({', '.join(terms) or 'no terms'}), so nothing would be "
                "learned or forgotten. Give at least one term a positive weight."
            )

    @property
    def roles(self) -> set[Role]:
        """Roles on which token losses are needed."""
        return {term.role for term in self.terms.values()}

    @property
    def reference_roles(self) -> set[Role]:
        """Roles on which the reference is needed, too."""
        return {term.role for term in self.terms.values() if term.needs_reference}

    def separable_in(self, role: Role) -> Quantity | None:
        """The quantity by which each of a role's tokens counts by itself; None if there is none, or
        more than one."""
        found = {term.separable_in for term in self.terms.values() if term.role == role}
        return found.pop() if len(found) == 1 else None

    def slopes(self, role: Role, tokens: TokenLosses) -> Tensor:
        """[N]: the total's derivative by each token's NLL or KL, whichever the role's terms are
        separable in. A token's own is right even if the others' values are not known yet."""
        quantity = self.separable_in(role)
        assert quantity is not None, role
        with torch.enable_grad():
            values = getattr(tokens, quantity).detach().requires_grad_()
            tokens = replace(tokens, **{quantity: values})
            terms = [term for term in self.terms.values() if term.role == role]
            total = sum((term.weight * term(tokens) for term in terms), start=values.new_zeros(()))
            return torch.autograd.grad(total, values)[0]

    def __call__(self, tokens: Mapping[Role, TokenLosses]) -> dict[str, Tensor]:
        """Each term's raw value; weigh them with `total`."""
        return {name: term(tokens[term.role]) for name, term in self.terms.items()}

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weighted = [self.terms[name].weight * value for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0])
