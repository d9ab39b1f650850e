"""Keeps the study of a comparison in `comparison.json` while its jobs run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from unlearning.files.made import Made
from unlearning.report.compare.study import RECORD, Study, is_comparison, read_study


def write_study(folder: Path, study: Study) -> None:
    """Writes the study, with what an earlier start was told; results come when all is done."""
    text = json.dumps({"study": study.to_json(), "complete": False}, indent=2)
    Made(folder).write({RECORD: f"{text}\n".encode()}, recognised=lambda _: False)


def told_before(folder: Path) -> Mapping[str, int]:
    """Returns how many trials each method had whose search was over at an earlier start."""
    return read_study(folder).told if is_comparison(folder) else {}
