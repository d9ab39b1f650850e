"""`model.gguf`: a model by its GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

SUFFIX = ".gguf"


def with_gguf(config: DictConfig) -> DictConfig:
    """Returns the configuration with `model.gguf` as the model that is named; without one, itself.

    The file comes before another name and before a recipe, which groups give as defaults. Its own
    tokenizer is taken unless `model.tokenizer` names another.
    """
    as_written: Any = OmegaConf.to_container(config.model, resolve=False)
    named = as_written["name_or_path"]
    file = as_written.get("gguf") or (named if Path(str(named)).suffix.lower() == SUFFIX else None)
    if file is None:
        return config
    found = config.copy()
    if as_written["tokenizer"] in (None, "${.name_or_path}", named, file):
        found.model.tokenizer = None  # the file's own
    found.model.name_or_path, found.model.base = config.model.get("gguf") or file, None
    return found
