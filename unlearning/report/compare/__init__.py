"""Reads and writes a comparison of methods: what each found, and which can be told apart."""

from __future__ import annotations

from unlearning.report.compare.page import write_comparison
from unlearning.report.compare.results import read_results
from unlearning.report.compare.study import is_comparison
from unlearning.report.compare.terminal import text_table

__all__ = ["is_comparison", "read_results", "text_table", "write_comparison"]
