"""Reads the objectives of a sweep from `metrics.json` by their paths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.nested import leaves
from unlearning.report.ending import is_reverted


def read_objectives(metrics: Path, paths: Sequence[str]) -> list[float]:
    """Returns the numbers at these paths.

    Args:
        metrics: a run's `metrics.json`.
        paths: dotted, such as `after.harmful_heldout/harmful_rate`; where an interval stands
            there, its value is meant.

    Raises:
        ConfigError: there is no such path, or no number at it.
    """
    if not paths:
        return []
    found = json.loads(metrics.read_text(encoding="utf-8"))
    return [_number(found, path, metrics) for path in paths]


def reverted(metrics: Path) -> bool:
    """Whether a finished run's guard put back the weights that it began with."""
    return is_reverted(json.loads(metrics.read_text(encoding="utf-8")))


def _number(found: Any, path: str, metrics: Path) -> float:
    node = found
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise ConfigError(_absent(found, path, metrics))
        node = node[part]
    if isinstance(node, Mapping) and "value" in node:
        node = node["value"]
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        raise ConfigError(
            f"sweep.objectives: {path!r} is {_short(node)} in {metrics}, not a number."
        )
    return float(node)


def _absent(found: Mapping[str, Any], path: str, metrics: Path) -> str:
    near = get_close_matches(path, _numbers(found), n=3, cutoff=0.4)
    hint = f" Near it: {', '.join(near)}." if near else ""
    return f"sweep.objectives: there is no {path!r} in {metrics}.{hint}"


def _numbers(found: Mapping[str, Any]) -> list[str]:
    """Lists every path that could have been meant."""
    return [
        path.removesuffix(".value")
        for path, value in leaves(found, lists=False)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _short(node: Any) -> str:
    return "undefined (null)" if node is None else repr(node)[:40]
