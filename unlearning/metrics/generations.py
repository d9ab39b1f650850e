"""Reads and writes `generations.jsonl`: every answer of a run, from which every score can be
computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.files.atomic import atomic_write
from unlearning.names_0_4 import current_generation
from unlearning.nested import mapped
from unlearning.types import AlternativeScore, Generation

_FIELDS = {f.name for f in fields(Generation)}
_REQUIRED = {
    f.name for f in fields(Generation) if f.default is MISSING and f.default_factory is MISSING
}
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "Mapping[str, Sequence[AlternativeScore]]": (dict,),
}


def write_generations(path: str | Path, generations: Iterable[Generation]) -> None:
    """Writes one JSON object per line, atomically.

    A number that is not finite becomes null, as JSON has no other word for it; a metric that
    misses it for some prompts is then undefined rather than better than it was.
    """
    with (
        atomic_write(path, shared=True) as aside,
        # a lone surrogate is not UTF-8; this writes it as the escape that JSON reads back
        aside.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for generation in generations:
            row = mapped(generation.to_dict(), _finite)
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_generations(path: str | Path) -> list[Generation]:
    """Reads what `write_generations` wrote.

    Raises:
        ConfigError: no such file, or a line that is no Generation.
    """
    source = Path(path)
    if not source.is_file():
        raise ConfigError(
            f"no generations at {source}; expected a generations.jsonl of a run's evaluation."
        )
    try:
        lines = source.read_bytes().decode("utf-8").split("\n")  # not U+2028, which answers hold
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not UTF-8 text: {error}") from error
    rows = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    return [_parse(line, f"{source}, line {number}") for number, line in rows]


def by_prompt_set(
    answers: Mapping[str, Sequence[Generation]],
) -> dict[str, dict[str, list[Generation]]]:
    """Groups generations by prompt set and model, in the order of their index.

    Args:
        answers: of each model, by what it is called.

    Raises:
        ConfigError: a prompt twice for one model, not for every model, or with another text.
    """
    models = {name: _by_key(found, name) for name, found in answers.items()}
    for first, second in pairwise(models):
        _check_same(models, first, second)
    found: dict[str, dict[str, list[Generation]]] = {}
    for key in sorted(next(iter(models.values()), {})):
        sides = found.setdefault(key[0], {name: [] for name in models})
        for name, rows in models.items():
            sides[name].append(rows[key])
    return found


Keyed = dict[tuple[str, int], Generation]


def _check_same(stages: dict[str, Keyed], first: str, second: str) -> None:
    """Checks that both stages answer the same prompts."""
    unpaired = sorted(stages[first].keys() ^ stages[second].keys())
    if unpaired:
        side = first if unpaired[0] in stages[first] else second
        raise ConfigError(
            f"{len(unpaired)} prompts were answered in one stage only (first: {unpaired[0]}, only "
            f"{side}); expected the same prompts {first} and {second}: evaluate both on the same "
            "sets."
        )
    for key, old in stages[first].items():
        new = stages[second][key]
        if (old.prompt, old.target) != (new.prompt, new.target):
            raise ConfigError(
                f"prompt or target of {key} differs between {first} and {second} "
                f"({old.prompt!r} and {new.prompt!r}); expected one prompt per index: evaluate "
                "both stages on the same data."
            )


def _by_key(generations: Sequence[Generation], stage: str) -> Keyed:
    found: Keyed = {}
    for generation in generations:
        key = (generation.prompt_set, generation.index)
        if key in found:
            raise ConfigError(
                f"prompt {key} stands twice in the generations {stage}; expected one answer per "
                "prompt: drop the duplicates that ranks gather."
            )
        found[key] = generation
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _known(score: Mapping[str, Any]) -> dict[str, Any]:
    """An alternative's score with NaN for what was not finite when it was written."""
    return {name: math.nan if value is None else value for name, value in score.items()}


def _parse(line: str, where: str) -> Generation:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where} holds a {type(row).__name__}; expected an object.")
    row = current_generation(row)
    missing, unknown = _REQUIRED - row.keys(), row.keys() - _FIELDS
    if missing or unknown:
        raise ConfigError(
            f"{where} lacks {sorted(missing)} and has unknown keys {sorted(unknown)}; expected "
            f"the fields of a Generation: {sorted(_FIELDS)}."
        )
    for field in fields(Generation):
        if field.name not in row:
            continue
        value = row[field.name]
        # a bool is an int to Python, not to us
        fits = isinstance(value, _TYPES[str(field.type)])
        if not fits or (isinstance(value, bool) and field.type != "bool"):
            raise ConfigError(f"{where}: {field.name} is {value!r}; expected {field.type}.")
    return Generation(**{**row, **_alternatives(row, where)})


def _alternatives(row: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        found = {
            name: tuple(AlternativeScore(**_known(score)) for score in scores)
            for name, scores in row.get("alternatives", {}).items()
        }
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f"{where}: alternatives are {row['alternatives']!r}; expected lists of text, nll, "
            "tokens and end_nll."
        ) from error
    return {"alternatives": found}
