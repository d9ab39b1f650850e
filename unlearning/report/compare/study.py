"""What a comparison is about: its methods, what each may try, and what they are held to.

It stands in `comparison.json` from the start, so that the folder tells it without Hydra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlearning.errors import ConfigError
from unlearning.files.parsing import read_json
from unlearning.report.compare.rule import Goal, Limit

RECORD = "comparison.json"


@dataclass(frozen=True)
class Study:
    """A comparison of methods.

    Args:
        space: method -> key -> what it may be, or is, in Hydra's words.
        n_trials: of each method.
        seed: of the trials.
        seeds: of the picked settings' runs.
        steps: optimizer steps of every run.
        validation: the choice of `evaluation` that makes a job a trial.
        told: how many trials of a method have ended, for methods whose search is over.
        apart: overrides by which sets of the test ask the part of a split that no trial is asked.
    """

    space: Mapping[str, Mapping[str, str]]
    n_trials: int
    seed: int
    seeds: tuple[int, ...]
    steps: int
    validation: str
    goal: Goal
    budget: tuple[Limit, ...]
    told: Mapping[str, int]
    apart: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.space)

    @property
    def in_parts(self) -> list[str]:
        """The sets of the test that ask a part of their split."""
        return [word.rpartition(".")[0].rpartition(".")[2] for word in self.apart]

    def with_told(self, method: str, count: int) -> Study:
        """Returns the study with the search of one more method over."""
        return replace(self, told={**self.told, method: count})

    def to_json(self) -> dict[str, Any]:
        """Returns what stands under `study`."""
        return {
            "space": {method: dict(keys) for method, keys in self.space.items()},
            "n_trials": self.n_trials,
            "seed": self.seed,
            "seeds": list(self.seeds),
            "steps": self.steps,
            "validation": self.validation,
            "forget": str(self.goal),
            "budget": [str(limit) for limit in self.budget],
            "told": dict(self.told),
            "apart": list(self.apart),
        }


def is_comparison(folder: Path) -> bool:
    """Whether a sweep folder holds a comparison of methods."""
    return (Path(folder) / RECORD).is_file()


def read_study(folder: Path) -> Study:
    """Reads the study of a comparison's folder.

    Raises:
        ConfigError: `comparison.json` cannot be read.
    """
    path = Path(folder) / RECORD
    try:
        found = read_json(path)["study"]
        return Study(
            space={str(method): _texts(words) for method, words in found["space"].items()},
            n_trials=int(found["n_trials"]),
            seed=int(found["seed"]),
            seeds=tuple(map(int, found["seeds"])),
            steps=int(found["steps"]),
            validation=str(found["validation"]),
            goal=Goal.parse(found["forget"]),
            budget=tuple(map(Limit.parse, found["budget"])),
            told={str(method): int(count) for method, count in found["told"].items()},
            apart=tuple(map(str, found.get("apart", ()))),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error!r}. Was it edited? Moved away, it is written again by "
            f"unlearn -m sweep.resume={folder}."
        ) from error


def _texts(words: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in words.items()}
