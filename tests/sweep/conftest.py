"""Jobs that are no models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from unlearning.sweep import processes

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every job of this process is a stand-in; works in an empty folder, which it returns."""
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, str(STAND_IN)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls(folder: Path) -> list[dict[str, Any]]:
    """How a stand-in was started, every time."""
    text = (folder / "calls.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def jobs(sweep: Path) -> dict[int, dict[str, Any]]:
    """The jobs of `sweep.json`."""
    found = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return {int(number): job for number, job in found.items()}
