"""Checks whether the answers to forget still stand out among answers that were never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearning.report.checks import Check
from unlearning.report.figures import lookup, section, write_interval, write_number
from unlearning.report.stages import changes, has_original, start

_AUC = "unlearning.metrics.membership.membership_auc"
_AGGREGATES = "aggregates"


def membership_figures(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the names of the run's membership AUCs."""
    measured = section(metrics, "after")
    return [
        name
        for name, facts in section(metrics, "metrics").items()
        if isinstance(facts, Mapping) and facts.get("path") == _AUC
        and f"{_AGGREGATES}/{name}" in measured
    ]  # fmt: skip


def told_apart(metrics: Mapping[str, Any], name: str) -> Check:
    """Checks that the AUC is that of the model which never saw the answers.

    Above it they are still known. Below it they are less likely than unseen ones, which tells them
    as well: over-unlearning. Without fine-tuning it is held to the model before unlearning, and
    only a fall can be judged.
    """
    began, after = (lookup(metrics, s, _AGGREGATES, name) for s in (start(metrics), "after"))
    change = lookup(metrics, changes(metrics), _AGGREGATES, name)
    whose = "the original model" if has_original(metrics) else "the model before unlearning"
    if began.value is None or after.value is None:
        return Check(None, f"The AUC of {name} was not measured both for {whose} and after.")
    says = (
        f"The AUC of {name} is {write_number(after.value, 'plain')}, and "
        f"{write_number(began.value, 'plain')} for {whose}"
    )
    if change.low is None or change.high is None:
        return Check(None, f"{says}; the difference has no interval.")
    says += f": a difference of {write_interval(change, 'plain', True)} (95 % interval)"
    if change.high < 0:
        return Check(False, f"{says}. Forgotten more than never seen, they stand out again.")
    if change.low > 0 and has_original(metrics):
        return Check(False, f"{says}. They are still told from answers that were never seen.")
    return Check(True, f"{says}.")
