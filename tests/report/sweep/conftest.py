from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from unlearning.report.sweep.folder import SweepFolder, read_sweep_folder
from unlearning.report.sweep.measures import HARM
from unlearning.report.sweep.settings import Setting, group
from unlearning.report.sweep.swept import find_swept

from .sweeps import Job, write_sweep


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., SweepFolder]:
    """Write a sweep and read it back."""

    def write_and_read(jobs: Sequence[Job], **how: object) -> SweepFolder:
        return read_sweep_folder(write_sweep(tmp_path, jobs, **how))  # type: ignore[arg-type]

    return write_and_read


@pytest.fixture
def settings_of(read: Callable[..., SweepFolder]) -> Callable[..., list[Setting]]:
    def settings(jobs: Sequence[Job], measure=HARM) -> list[Setting]:
        sweep = read(jobs)
        return group(sweep.jobs, find_swept(sweep), measure)

    return settings
