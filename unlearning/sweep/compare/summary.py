"""Says at the end of a comparison what was found, and writes its page."""

from __future__ import annotations

import shlex
from pathlib import Path

from unlearning.errors import FAILED
from unlearning.report.compare import read_results, text_table, write_comparison
from unlearning.sweep.messages import tell


def sum_up_comparison(folder: Path) -> int:
    """Tells the table and the verdict, or what is missing for one.

    Returns:
        The exit code: 0 with a verdict, whether or not a trial failed.
    """
    page = write_comparison(folder)
    results = read_results(folder)
    tell(f"\nOn the test prompts, means over {len(results.study.seeds)} seed(s):\n")
    tell(text_table(results) + "\n")
    for line in results.verdict:
        tell(line)
    for each in results.differences:
        if each.differs is not True:
            known = "not told apart" if each.differs is False else f"not known ({each.why})"
            tell(f"  {each.first} and {each.second}, {each.measure.in_words}: {known}")
    for line in results.missing:
        tell(f"No verdict yet: {line}")
    tell(f"Report: {page}")
    if not results.missing:
        return 0
    tell(f"To go on: unlearn -m sweep.resume={shlex.quote(str(folder))}")
    return FAILED
