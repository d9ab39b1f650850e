"""The report's verdicts: one for each way in which unlearning can fail.

A falling harmful rate alone proves nothing: a model that answers with white space is not harmful
either. So four questions are asked apart: was it forgotten, was the rest retained, is the output
still language, and did the neighbourhood of the forgotten topic survive? Where a book was to be
forgotten, the first two have names of their own, and the last is asked only if it can be answered.
A run that measures a membership AUC is asked, too, whether what it forgot stands out by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearning.report.book_checks import book_forgotten
from unlearning.report.checks import (
    DEFAULT_LIMITS,
    Check,
    Limits,
    bleu,
    broken,
    forgotten,
    kept_right,
    perplexity,
)
from unlearning.report.figures import prompt_sets
from unlearning.report.membership_checks import membership_figures, told_apart
from unlearning.report.sets import finetuned, held_out, of_kind, set_facts
from unlearning.report.stages import before_and_after, has_book


@dataclass(frozen=True)
class Verdict:
    """The answer to one question.

    Args:
        name: the failure signature, for example `retain damaged`.
        ok: True where the signature is absent, False where it shows, None where not measured.
        sentence: the figure, its limit and its interval, in plain words.
        too_few: whether it is None since there are too few prompts to say.
    """

    name: str
    ok: bool | None
    sentence: str
    too_few: bool = False

    @property
    def headline(self) -> str:
        """The name of the outcome."""
        passed, failed, unknown = _HEADLINES[self.name]
        return unknown if self.ok is None else passed if self.ok else failed

    @property
    def outcome(self) -> str:
        """Whether the check passed, in words."""
        unknown = "too few to say" if self.too_few else "not measured"
        return unknown if self.ok is None else "pass" if self.ok else "fail"


_HEADLINES = {
    "BLEU still high": ("Book forgotten", "BLEU still high", "Forgetting not shown"),
    "normal text damaged": (
        "Normal text intact",
        "Normal text damaged",
        "Normal text not fully measured",
    ),
    "forget not effective": ("Forget effective", "Forget not effective", "Forgetting not shown"),
    "retain damaged": ("Retain intact", "Retain damaged", "Retain not fully measured"),
    "output broken": ("Output sound", "Output broken", "Output not fully measured"),
    "traces left": ("No traces of membership", "Traces of membership", "Membership not measured"),
    "side damage": ("No side damage", "Side damage", "Side damage not measured"),
}


def verdicts(metrics: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> list[Verdict]:
    """Judges the contents of `metrics.json`, with one verdict per failure signature."""
    if not before_and_after(metrics):
        return []
    answered = [name for name in prompt_sets(metrics) if set_facts(metrics, name).get("kind")]
    retain = held_out(metrics, "retain")
    book = has_book(metrics)
    found = []
    if book:
        found.append(_book_forgotten(metrics, limits))
    if not book or of_kind(metrics, "harmful"):
        found.append(_harm_forgotten(metrics, limits))
    if auc := membership_figures(metrics):
        checks = [told_apart(metrics, name) for name in auc]
        found.append(_combine("traces left", checks, "there is no membership AUC"))
    found += [
        _combine(
            "normal text damaged" if book else "retain damaged",
            [check(metrics, name, limits) for name in retain for check in (perplexity, bleu)],
            "there is no held-out set of retain prompts",
        ),
        _combine(
            "output broken",
            _worst([broken(metrics, name, limits) for name in answered]),
            "there is no prompt set",
        ),
    ]
    if not book or of_kind(metrics, "related"):
        found.append(_side_damage(metrics, limits))
    return found


def _book_forgotten(metrics: Mapping[str, Any], limits: Limits) -> Verdict:
    names = finetuned(metrics, "copyright")
    checks = [book_forgotten(metrics, name, limits) for name in names]
    return _combine("BLEU still high", checks, "there is no set of passages that were trained on")


def _harm_forgotten(metrics: Mapping[str, Any], limits: Limits) -> Verdict:
    checks = [forgotten(metrics, name, limits) for name in held_out(metrics, "harmful")]
    why_empty = "there is no held-out set of harmful prompts"
    return _combine("forget not effective", checks, why_empty)


def _side_damage(metrics: Mapping[str, Any], limits: Limits) -> Verdict:
    checks = [kept_right(metrics, name, limits) for name in of_kind(metrics, "related")]
    return _combine("side damage", checks, "there is no set of related prompts")


def _combine(name: str, checks: list[Check], why_empty: str) -> Verdict:
    """Combines checks: every check must pass; a failure weighs more than a missing figure, which
    is never a pass."""
    if not checks:
        return Verdict(name, None, f"Not measured: {why_empty}.")
    outcomes = [check.ok for check in checks]
    ok = False if False in outcomes else None if None in outcomes else True
    # The worst first, so that a reader who stops early has read what decided.
    ordered = sorted(checks, key=lambda check: {False: 0, None: 1, True: 2}[check.ok])
    too_few = ok is None and all(check.too_few for check in checks if check.ok is None)
    return Verdict(name, ok, " ".join(check.sentence for check in ordered), too_few)


def _worst(checks: list[Check]) -> list[Check]:
    """Returns the checks that decide: failures and missing figures, or the one nearest to its
    limit."""
    telling = [check for check in checks if check.ok is not True]
    if telling or not checks:
        return telling
    worst = min(checks, key=lambda check: check.distance)
    among = f" No other of the {len(checks)} prompt sets is worse." if len(checks) > 1 else ""
    return [Check(True, worst.sentence + among, worst.distance)]
