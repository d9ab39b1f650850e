"""Writes the page of a sweep: what was forgotten at which cost, setting by setting."""

from __future__ import annotations

from unlearning.report.sweep.folder import is_sweep_folder
from unlearning.report.sweep.page import write_sweep_report

__all__ = ["is_sweep_folder", "write_sweep_report"]
