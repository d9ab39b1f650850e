"""Checks whether a book was forgotten: continued no better than by a model that never saw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearning.report.checks import ROUNDING, Check, Limits, judge
from unlearning.report.figures import Figure, lookup, number, write_number
from unlearning.report.stages import since_start

_BLEU = "bleu_to_target"


def book_forgotten(metrics: Mapping[str, Any], name: str, limits: Limits) -> Check:
    """Checks that the BLEU to the true text is back at the original model's, and had been well
    above it."""
    original, finetuned, after = (
        lookup(metrics, stage, name, _BLEU).value for stage in ("original", "before", "after")
    )
    if original is None:
        return Check(
            None,
            f"On {name} the BLEU to the true text was not measured for the original model, which "
            "says how much of the book can be guessed.",
        )
    if finetuned is None or after is None:
        return Check(
            None, f"On {name} the BLEU to the true text was not measured both before and after."
        )
    if finetuned - original < limits.min_bleu_learnt - ROUNDING:
        return Check(None, _not_learnt(name, original, finetuned, limits))
    above = since_start(metrics, name, _BLEU)
    if above.value is None:
        above = Figure(number(after - original))
    says = (
        f"On {name} the BLEU to the true text went from {_bleu(finetuned)} to {_bleu(after)}. "
        f"The original model has {_bleu(original)}; the difference from it is"
    )
    check = judge(above, limits.max_bleu_above_original, says, "bleu", True, at_most=True)
    return Check(check.ok, check.sentence + _longest_run(metrics, name), check.distance)


def _not_learnt(name: str, original: float, finetuned: float, limits: Limits) -> str:
    return (
        f"On {name} the BLEU to the true text is {_bleu(finetuned)} for the fine-tuned model and "
        f"{_bleu(original)} for the original one. That is not {limits.min_bleu_learnt:g} points "
        "above it: the book was not learnt, so there was nothing to forget."
    )


def _longest_run(metrics: Mapping[str, Any], name: str) -> str:
    """Adds the longest verbatim run: a high BLEU may come from many short phrases."""
    original, finetuned, after = (
        lookup(metrics, stage, name, "verbatim_tokens").value
        for stage in ("original", "before", "after")
    )
    if finetuned is None or after is None:
        return ""
    said = f" The longest verbatim run went from {finetuned:.1f} tokens to {after:.1f} on average"
    if original is not None:
        said += f" (original model: {original:.1f})"
    return f"{said}."


def _bleu(value: float) -> str:
    return write_number(value, "bleu")
