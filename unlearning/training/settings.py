"""Checks the settings of `UnlearningModule`, and makes them plain enough for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from unlearning.errors import ConfigError
from unlearning.imports import stored_name
from unlearning.losses import Reduction
from unlearning.nested import mapped
from unlearning.reference import Mode
from unlearning.training.optimizers import Schedule


def check_settings(
    reduction: str,
    reference: str,
    reference_dtype: str,
    schedule: str,
    learning_rate: float,
    chunk_size: int | None,
) -> None:
    """Checks settings that would otherwise fail only during training.

    Raises:
        ConfigError: naming the setting and its choices.
    """
    for name, value, known in (
        ("reduction", reduction, get_args(Reduction)),
        ("reference", reference, get_args(Mode)),
        ("reference_dtype", reference_dtype, ("float32", "bfloat16")),
        ("schedule", schedule, get_args(Schedule)),
    ):
        if value not in known:
            raise ConfigError(f"Unknown {name} {value!r}; choose one of {', '.join(known)}.")
    if not learning_rate > 0 or (chunk_size is not None and chunk_size < 1):
        raise ConfigError(
            f"learning_rate={learning_rate} must be above 0 and chunk_size={chunk_size} at least 1."
        )


def plain_settings(**settings: Any) -> dict[str, Any]:
    """Converts settings to values that `torch.load(weights_only=True)` reads: no callables, no
    paths."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return stored_name(value) if callable(value) else value

    found: dict[str, Any] = mapped(settings, plain)
    return found
