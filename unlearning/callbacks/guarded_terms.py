"""Finds by their role the terms of an objective that the collapse guard watches and lowers."""

from __future__ import annotations

from collections.abc import Mapping

from lightning import LightningModule

from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule
from unlearning.terms import Term


def retain_kl_metric(module: LightningModule) -> str:
    """Name of the logged retain KL: `train/<term>` of the one term of role retain that is one.

    Raises:
        ConfigError: there is none, or more than one.
    """
    terms = _terms(module)
    found = [name for name, term in terms.items() if watches_kl(term)]
    if len(found) != 1:
        raise ConfigError(
            "CollapseGuard: retain_kl watches the term of role retain that is a KL; "
            f"there are {len(found)} among {list(terms)}. Name its metric: kl_metric=train/<term>."
        )
    return f"train/{found[0]}"


def forget_terms(module: LightningModule, lowered: Mapping[str, float]) -> dict[str, Term]:
    """Returns the terms of role forget, with the weights that a run before a resume lowered them
    to.

    Raises:
        ConfigError: there are none, or not those that were lowered.
    """
    found = {name: term for name, term in _terms(module).items() if "forget" in term.roles}
    if not found or not lowered.keys() <= found.keys():
        raise ConfigError(
            f"CollapseGuard: there are the terms {sorted(found)} of role forget to lower, and "
            f"{sorted(lowered)} were lowered before. Use action=stop, or resume with the terms of "
            "the first run."
        )
    for name, weight in lowered.items():
        found[name].weight = weight
    return found


def watches_kl(term: Term) -> bool:
    """Whether a term's value is a KL to the reference on retain answers, as far as it says."""
    undeclared = bool(term.needs_reference) and not term.needs and not term.quantities
    return "retain" in term.roles and ("kl" in term.needs or undeclared)


def _terms(module: LightningModule) -> dict[str, Term]:
    return module.objective.terms if isinstance(module, UnlearningModule) else {}
