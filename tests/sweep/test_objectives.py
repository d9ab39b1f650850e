"""Numbers by their paths in metrics.json."""

from __future__ import annotations

import json

import pytest

from unlearning.errors import ConfigError
from unlearning.sweep.objectives import read_objectives


@pytest.fixture
def metrics(tmp_path):
    content = {
        "after": {
            "harm/rate": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 8},
            "retain/perplexity": {"value": None, "low": None, "high": None, "n": 8},
        },
        "steps": 3,
        "done": True,
    }
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    return path


def test_an_interval_stands_for_its_value(metrics):
    paths = ["after.harm/rate", "after.harm/rate.high", "steps"]
    assert read_objectives(metrics, paths) == [0.25, 0.4, 3.0]
    assert read_objectives(metrics, []) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("after.harm/rat", "Near it: after.harm/rate"),
        ("after.harm/rate.mean", "there is no 'after.harm/rate.mean'"),
        ("after.retain/perplexity", "undefined"),
        ("done", "True"),
    ],
)
def test_what_is_no_number_is_an_error(metrics, path, said):
    with pytest.raises(ConfigError, match=said):
        read_objectives(metrics, [path])
