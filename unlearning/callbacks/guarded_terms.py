"""Finds by their role the terms of an objective that the collapse guard watches and lowers."""

from __future__ import annotations

from collections.abc import Mapping

from lightning import LightningModule

from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule
from unlearning.objective import Term


def retain_kl_metric(module: LightningModule) -> str:
    """Returns the logged name of the retain KL: `train/<term>` of the one term of role retain that
    needs the reference.

    Raises:
        ConfigError: there is none, or more than one.
    """
    terms = _terms(module)
    found = [name for name, term in terms.items() if term.role == "retain" and term.needs_reference]
    if len(found) != 1:
        raise ConfigError(
            "CollapseGuard: retain_kl watches the term of role retain that needs the reference; "
            f"there are {len(found)} among {list(terms)}. Name its metric: kl_metric=train/<term>."
        )
    return f"train/{found[0]}"


def forget_terms(module: LightningModule, lowered: Mapping[str, float]) -> dict[str, Term]:
    """Returns the terms of role forget, with the weights that a run before a resume lowered them
    to.

    Raises:
        ConfigError: there are none, or not those that were lowered.
    """
    found = {name: term for name, term in _terms(module).items() if term.role == "forget"}
    if not found or not lowered.keys() <= found.keys():
        raise ConfigError(
            f"CollapseGuard: there are the terms {sorted(found)} of role forget to lower, and "
            f"{sorted(lowered)} were lowered before. Use action=stop, or resume with the terms of "
            "the first run."
        )
    for name, weight in lowered.items():
        found[name].weight = weight
    return found


def _terms(module: LightningModule) -> dict[str, Term]:
    return module.objective.terms if isinstance(module, UnlearningModule) else {}
