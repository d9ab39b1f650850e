"""Reads the files of a run folder. Only `metrics.json` is required."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.files.parsing import parse_json, parse_yaml
from unlearning.names_0_4 import current_config, current_generation, current_metrics

# A file of an evaluation has at least one of these parts.
_PARTS = ("models", "prompt_sets", "before", "after", "change")

Curve = list[tuple[float, float]]
"""(step, value) pairs in the order of steps."""


@dataclass(frozen=True)
class RunFolder:
    """The contents of a run folder.

    Args:
        metrics: `metrics.json`.
        config: `config.yaml`, parsed; empty where the file is absent.
        config_text: the same file as it stands.
        generations: rows of `generations.jsonl`, as `Generation.to_dict` wrote them.
        losses: column of `losses.csv` -> its curve.
        finished: the metrics' own `date`, or else when `metrics.json` was written (UTC).
    """

    metrics: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    generations: list[dict[str, Any]] = field(default_factory=list)
    losses: dict[str, Curve] = field(default_factory=dict)
    finished: str = ""


def read_run_folder(folder: Path) -> RunFolder:
    """Reads a run folder.

    Raises:
        ConfigError: `metrics.json` is missing, or a file does not hold what its name promises.
    """
    metrics_file = folder / "metrics.json"
    if not metrics_file.is_file():
        raise ConfigError(
            f"{metrics_file} does not exist, so there is nothing to report. "
            "Expected the folder of a run whose evaluation has finished; run its stages first."
        )
    raw = _parse_json(_text(metrics_file), metrics_file)
    metrics = current_metrics(_mapping(raw, metrics_file))
    if not any(part in metrics for part in _PARTS):
        raise ConfigError(
            f"{metrics_file} holds none of the parts that an evaluation writes "
            f"({', '.join(_PARTS)}), so there is nothing to report. Give the folder of a run."
        )
    config_text = _text(folder / "config.yaml")
    return RunFolder(
        metrics=metrics,
        config=current_config(_parse_config(config_text, folder / "config.yaml")),
        config_text=config_text,
        generations=_read_generations(folder / "generations.jsonl"),
        losses=_read_losses(folder / "losses.csv"),
        finished=_finished(metrics, metrics_file),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error}). Was it damaged?") from error


def _parse_json(text: str, where: object) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise ConfigError(
            f"{where} is not valid JSON ({error}). It may have been cut off while it was written; "
            "run the evaluation again."
        ) from error


def _mapping(value: Any, where: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ConfigError(
        f"{where} holds a {type(value).__name__}; expected a mapping of names to values."
    )


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    try:
        config = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not plain YAML ({error}). Save the composed configuration with its "
            "interpolations resolved."
        ) from error
    return {} if config is None else _mapping(config, path)


def _read_generations(path: Path) -> list[dict[str, Any]]:
    lines = _text(path).split("\n")  # not splitlines: U+2028 is legal inside a JSON string
    return [
        current_generation(
            _mapping(_parse_json(line, f"{path}, line {number}"), f"{path}, line {number}")
        )
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _read_losses(path: Path) -> dict[str, Curve]:
    """Reads curves by column; a blank cell means that the column was not logged at that step.

    Lightning's CSVLogger prefixes what the training step logs with `train/`. Where any column
    has that prefix, the others belong to validation or to callbacks and are no losses.
    """
    curves: dict[str, Curve] = {}
    for row_number, row in enumerate(csv.DictReader(io.StringIO(_text(path)))):
        step = _cell(row.pop("step", None), path)
        row.pop("epoch", None)
        if None in row:  # where DictReader puts cells beyond the last column
            raise ConfigError(f"{path}: data row {row_number + 1} has more cells than the header.")
        for column, cell in row.items():
            value = _cell(cell, path)
            if value is not None:
                at = float(row_number) if step is None else step
                curves.setdefault(column, []).append((at, value))
    inside = {
        c.removeprefix("train/"): curve for c, curve in curves.items() if c.startswith("train/")
    }
    rates = {c: curve for c, curve in curves.items() if c.startswith("lr-")}
    return {**inside, **rates} if inside else curves


def _cell(text: str | None, path: Path) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{path} holds {text!r} where a number was expected.") from error


def finite(curve: Curve) -> Curve:
    """Returns the finite part of a curve."""
    return [(step, value) for step, value in curve if math.isfinite(value) and math.isfinite(step)]


def _finished(metrics: Mapping[str, Any], metrics_file: Path) -> str:
    date = metrics.get("date")
    if isinstance(date, str) and date:
        return date
    written = datetime.fromtimestamp(metrics_file.stat().st_mtime, tz=UTC)
    return f"{written:%d %B %Y, %H:%M} UTC"
