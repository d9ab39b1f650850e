"""Words for times and exits."""

from __future__ import annotations

import pytest

from unlearning.progress import duration
from unlearning.sweep.messages import ending, last_error


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (59.0, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("code", "text"), [(-9, "killed by SIGKILL"), (3, "exit code 3"), (0, "no metrics.json")]
)
def test_endings(code, text):
    assert ending(code) == text


def test_why_a_job_failed(tmp_path):
    log = tmp_path / "job.log"
    assert last_error(log) == ""
    log.write_text("working\n")
    assert last_error(log) == ""
    log.write_text("Traceback ...\n  raise ValueError(x)\nlib.SomeError: it broke\n\nSet HYDRA\n")
    assert last_error(log) == "\n      lib.SomeError: it broke"
    log.write_text("x" * 50_000 + "\nRetrying in 1s\nerror: no such file\n")
    assert last_error(log) == "\n      error: no such file"
