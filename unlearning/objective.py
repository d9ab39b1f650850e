"""The weighted sum of named terms that a step minimises.

    theta <- theta - e1 grad L_fgt - e2 grad L_rdn - e3 grad L_nor      (arXiv 2405.15152, Eq. 1)

`PAPER_TERMS` is that, with the paper's weights. A term is a plain mapping, so that it fits in YAML
and in a checkpoint; its loss is a function of `TokenLosses`, given as an import path or a callable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses
from unlearning.probes import slopes
from unlearning.quantities import Separable, TokenQuantity
from unlearning.terms import Layer, Term
from unlearning.types import Role

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
    },
}


class Objective:
    """The weighted sum of named terms; those of weight 0 are left out.

    Args:
        terms: name -> mapping with the arguments of `Term`.

    Raises:
        ConfigError: no term has a weight, or a term is not well-formed.

    Examples:
        >>> objective = Objective(PAPER_TERMS)
        >>> sorted(objective.roles), sorted(objective.reference_roles)
        (['forget', 'mismatch', 'retain'], ['retain'])
        >>> objective.total({"forget": -2.0, "retain": 3.0})  # 0.5 * -2 + 1 * 3
        2.0
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

    def only(self, names: Sequence[str]) -> Objective:
        """Returns the objective of some of its terms; they are the same objects, with the same
        weights."""
        part = copy(self)
        part.terms = {name: term for name, term in self.terms.items() if name in names}
        return part

    @property
    def roles(self) -> set[Role]:
        """Roles that the terms are computed on."""
        return {role for term in self.terms.values() for role in term.roles}

    @property
    def reference_roles(self) -> set[Role]:
        """Roles on which the reference's logits are needed."""
        return self._roles_of(lambda term: term.needs_reference and not term.in_layers)

    @property
    def layers(self) -> dict[Layer, set[Role]]:
        """Layers whose hidden states are needed, with their roles."""
        return self._by_layer(lambda term: term.in_layers)

    @property
    def reference_layers(self) -> dict[Layer, set[Role]]:
        """Layers of the reference whose hidden states are needed, with their roles."""
        return self._by_layer(lambda term: "reference_hidden" in term.needs)

    @property
    def uses_head(self) -> bool:
        """Whether any term is a loss of the logits."""
        return any(not term.in_layers for term in self.terms.values())

    def _roles_of(self, wanted: Callable[[Term], Any]) -> set[Role]:
        return {role for term in self.terms.values() if wanted(term) for role in term.roles}

    def _by_layer(self, wanted: Callable[[Term], Any]) -> dict[Layer, set[Role]]:
        found: dict[Layer, set[Role]] = {}
        for term in self.terms.values():
            if wanted(term) and term.layer is not None:
                found.setdefault(term.layer, set()).update(term.roles)
        return found

    def _head_terms(self, role: Role) -> list[Term]:
        return [t for t in self.terms.values() if role in t.roles and not t.in_layers]

    def on_head(self, role: Role) -> bool:
        """Whether some term of a role is a loss of the logits."""
        return bool(self._head_terms(role))

    def quantities(self, role: Role) -> list[TokenQuantity]:
        """Returns the token quantities that the terms of a role need, beside NLL and KL."""
        terms = self._head_terms(role)
        return list(dict.fromkeys(quantity for term in terms for quantity in term.quantities))

    def separable_in(self, role: Role) -> Separable | None:
        """Returns the quantity that all of a role's terms are separable in; None if there is
        none, or more than one."""
        terms = self._head_terms(role)
        found = {term.separable_in if len(term.roles) == 1 else None for term in terms}
        return found.pop() if len(found) == 1 else None

    def slopes(self, role: Role, tokens: TokenLosses) -> Tensor:
        """Computes [N], the derivative of the total by each token's value of the quantity that
        the role's terms are separable in. It is right for a token even if the others' values are
        not known yet."""
        quantity = self.separable_in(role)
        assert quantity is not None, role
        terms = self._head_terms(role)
        return slopes(lambda t: self._weighted(terms, t), tokens, quantity)

    @staticmethod
    def _weighted(terms: Sequence[Term], tokens: TokenLosses) -> Tensor:
        zero = tokens.nll.new_zeros(())
        return sum((term.weight * term(tokens) for term in terms), start=zero)

    def __call__(
        self,
        tokens: Mapping[Role, TokenLosses],
        states: Mapping[str, Sequence[TokenLosses]] | None = None,
    ) -> dict[str, Tensor]:
        """Computes each term's value before its weight; `total` weighs them.

        Args:
            states: for a term with a layer, by its name, what it looks at; with the hidden states.
        """
        return {
            name: term(*(states or {}).get(name, [tokens[role] for role in term.roles]))
            for name, term in self.terms.items()
        }

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Computes the weighted sum of the terms."""
        weighted = [self.terms[name].weight * value for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0])
