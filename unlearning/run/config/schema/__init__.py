"""The schema: type and range of every key of the configuration, checked before anything starts.

One file a group of `conf/`; a key is one line there, its type from `kinds` or `unlearning.ranges`.
What needs an import of the class behind a `_target_` is in `unlearning.run.checks.targets`.
"""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from unlearning.errors import ConfigError
from unlearning.nested import leaves, walk
from unlearning.run.config.evaluate import EVALUATE, evaluation_config
from unlearning.run.config.gguf import with_gguf
from unlearning.run.config.resolving import unresolved
from unlearning.run.config.schema.fit import misfits
from unlearning.run.config.schema.messages import sentences, shown
from unlearning.run.config.schema.run import EvaluationRun, UnlearningRun


def check_schema(config: DictConfig) -> None:
    """Checks every key by itself, and those that have to fit together.

    Args:
        config: composed, as it was given.

    Raises:
        ConfigError: naming all keys that are missing or wrong.
    """
    config = evaluation_config(config)
    if OmegaConf.select(config, "model.gguf") and OmegaConf.is_missing(
        config.model, "name_or_path"
    ):
        config = with_gguf(config)
    given = OmegaConf.to_container(config, resolve=False)
    missing = sorted(path for path, value in leaves(given) if value == "???")
    if missing:
        raise ConfigError(
            f"These keys need a value: {', '.join(missing)}. Give them on the command line, "
            f"for example {missing[0]}=..."
        )
    try:
        values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise unresolved(config, error) from error
    wrong = faults(values)
    if len(wrong) == 1:
        raise ConfigError(wrong[0])
    if wrong:
        raise ConfigError(
            f"{len(wrong)} settings are wrong:" + "".join(f"\n  {text}" for text in wrong)
        )


def faults(values: dict[str, Any]) -> list[str]:
    """Returns a sentence for each key that is wrong.

    Args:
        values: the configuration as plain values.
    """
    general = list(_general(values))
    if general:
        return general
    model: type[EvaluationRun | UnlearningRun] = (
        EvaluationRun if values.get("task") == EVALUATE else UnlearningRun
    )
    try:
        run = model.model_validate(values)
    except ValidationError as error:
        return sentences(error, model, values)
    return list(misfits(run))


def _general(values: dict[str, Any]) -> Any:
    """Yields what is wrong wherever it stands."""
    for path, value in walk(values):
        name = path.rpartition(".")[2]
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{path}={value} must be a finite number."
        elif isinstance(value, int) and abs(value) >= 2**63:
            yield f"{path}={shown(value)} must be a number of at most 64 bits."
        elif name.startswith("_") and name.endswith("_") and name != "_target_":
            yield (
                f"{path}={shown(value)}: of Hydra's own words _target_ alone is taken here; give "
                "arguments by their names."
            )
        elif name in ("()",):
            yield f"{path}={shown(value)}: a factory has no place here."
    if "hydra" in values:
        yield "hydra: a run's own configuration has no such part. Remove it from config.yaml."
