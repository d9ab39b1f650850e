"""Parses JSON and YAML that may be damaged or somebody else's: whatever is wrong is a
ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

_TOO_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested beyond what Python follows.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: see `parse_json`.
        OSError: the file cannot be read.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """Parses plain YAML.

    Raises:
        ValueError: it is no plain YAML, or nested beyond what Python follows.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
