"""Saves the plain arguments of a DataModule as its hyperparameters, for loggers and checkpoints."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.core.mixins import HyperparametersMixin
from lightning.pytorch.utilities.parsing import collect_init_args

from unlearning.nested import mapped

NOT_LOGGED = ("cache_dir", "tokenizer", "template")
"""Objects, and a place: the module that is trained on the data may have another one of that name,
and Lightning refuses to log two values under one name."""
LONGEST = 20  # entries of a list or mapping; a longer one is data


def save_plain_hyperparameters(module: LightningDataModule) -> None:
    """Saves the plain arguments of a DataModule as hyperparameters. To be called from `__init__` of
    a base class; it includes the arguments of subclasses.

    Kept are numbers, text, None, and short lists and mappings of these. Tokenizers, data sets and
    templates are not: they fit neither in a logger nor in a checkpoint.
    """
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    found: dict[str, Any] = {}
    for arguments in collect_init_args(frame.f_back, [], classes=(HyperparametersMixin,)):
        found.update(arguments)
    kept = {name: value for name, value in found.items() if name not in NOT_LOGGED}
    plain = {name: value for name, value in kept.items() if _is_plain(value)}
    module.save_hyperparameters(mapped(plain, lambda v: str(v) if isinstance(v, Path) else v))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return len(value) <= LONGEST and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, (list, tuple)):
        return len(value) <= LONGEST and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Path)
