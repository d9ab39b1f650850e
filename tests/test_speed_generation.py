from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "speed" / "generation.py"


@pytest.mark.slow
def test_all_ways_say_the_same(tmp_path, monkeypatch, capsys):
    results = tmp_path / "generation.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--quick", "--results", str(results)])
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    found = json.loads(results.read_text())
    assert "| batch None, ended rows kept | 16 |" in capsys.readouterr().out
    for case in ("no answer ends", "answers end after 5 to 48 tokens"):
        for way, row in found[case].items():
            for key in ("equal_to_alone", "equal_to_smallest"):
                same, number = row[key]
                assert same == number > 0, way
