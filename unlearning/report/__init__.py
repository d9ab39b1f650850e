"""Writes the HTML report and the model card of a run folder. Never imports torch."""

from __future__ import annotations

from unlearning.report.checks import DEFAULT_LIMITS, Limits
from unlearning.report.model_card import model_card
from unlearning.report.page import write_report
from unlearning.report.verdict import Verdict, verdicts

__all__ = ["DEFAULT_LIMITS", "Limits", "Verdict", "model_card", "verdicts", "write_report"]
