"""Optimizers and learning-rate schedules by name or import path."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from unlearning.errors import ConfigError
from unlearning.imports import import_object

Schedule = Literal["linear", "constant", "cosine"]
SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup", "cosine": "cosine"}


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    name: str = "adamw",
    learning_rate: float = 2e-6,
    options: dict[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Builds an optimizer: `adamw` (fused), `adamw_8bit` (bitsandbytes, the `eightbit` extra) or an
    import path.

    Raises:
        ConfigError: it cannot be imported, or does not take the options.
    """
    options = dict(options or {})
    trainable = [p for p in parameters if p.requires_grad]
    if name == "adamw":
        options = {"fused": True, **options}  # one launch for all tensors, on CPU too
    path = {"adamw": "torch.optim.AdamW", "adamw_8bit": "bitsandbytes.optim.AdamW8bit"}.get(
        name, name
    )
    if name == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "optimizer=adamw_8bit needs bitsandbytes: pip install 'unlearning[eightbit]'."
        )
    if "." not in path:
        raise ConfigError(f"Unknown optimizer {name!r}; give adamw, adamw_8bit or an import path.")
    optimizer: Any = import_object(path)
    if not _is_optimizer(optimizer):
        raise ConfigError(f"optimizer={path} must be a torch.optim.Optimizer. It was not called.")
    try:
        return optimizer(trainable, lr=learning_rate, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} cannot take the options {options}: {error}.") from error


def _is_optimizer(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, torch.optim.Optimizer)


def build_schedule(
    optimizer: torch.optim.Optimizer, name: Schedule, warmup_steps: int, total_steps: float
) -> LRScheduler:
    """Builds a learning-rate schedule with linear warm-up: linear decay to 0 (the paper's),
    constant or cosine.

    Raises:
        ConfigError: an unknown name, a warm-up longer than the training, a training without end.

    Examples:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = build_schedule(optimizer, "linear", warmup_steps=2, total_steps=4)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates += schedule.get_last_lr()
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.0, 0.5, 1.0, 0.5]
    """
    if name not in SCHEDULES:
        raise ConfigError(f"Unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}.")
    if math.isinf(total_steps):
        raise ConfigError("A schedule needs an end: give the Trainer max_steps or max_epochs.")
    if not 0 <= warmup_steps <= total_steps:
        raise ConfigError(f"warmup_steps={warmup_steps} must lie in 0..{total_steps}, the steps.")
    return get_scheduler(SCHEDULES[name], optimizer, warmup_steps, int(total_steps))
