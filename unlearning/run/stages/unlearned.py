"""The result of the unlearning stage: saved at once, and found again by a resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from peft import PeftModel

from unlearning.files import write_json
from unlearning.models.adapter import merge_adapter
from unlearning.models.adapter_io import CONFIG as ADAPTER_CONFIG
from unlearning.models.adapter_io import load_adapter
from unlearning.models.decoder import CausalLM
from unlearning.models.load import load_model, load_tokenizer, save_model
from unlearning.run.output.run_folder import UNLEARNED
from unlearning.run.stages.models import load_base


@dataclass
class Unlearned:
    """The result of the unlearning stage.

    Args:
        policy: on rank 0; a rank whose share is a part of the weights has None.
        steps: optimizer steps made.
        stop_reason: why it ended before its last step, or None.
        notes: what a reader of the report should know, such as cut answers.
        reference: which reference the KL was to.
        signal: what stopped it, if one did; then a checkpoint to resume from was saved.
        kept_steps: optimizer steps in the weights, without those that the guard undid; None of a
            run that version 0.5 unlearned, and of a weight edit.
    """

    policy: CausalLM | None
    tokenizer: Any
    steps: int
    stop_reason: str | None
    notes: list[str]
    reference: str
    signal: int | None = None
    kept_steps: int | None = None


NOTED = ("steps", "stop_reason", "notes", "reference", "kept_steps")
MODEL = "model"


def keep_unlearned(config: DictConfig, folder: Path, result: Unlearned) -> None:
    """Saves the model at once, so that the unlearning is not lost whatever fails later.

    An adapter on a model that only lies among the kept results is merged into it.
    """
    policy = result.policy
    assert policy is not None
    kept = config.model.base is not None or config.finetune is not None
    if isinstance(policy, PeftModel) and kept:
        policy = result.policy = merge_adapter(policy)
    shutil.rmtree(folder / MODEL, ignore_errors=True)  # of a run that ended before it was noted
    save_model(policy, result.tokenizer, folder / MODEL)
    noted = {name: getattr(result, name) for name in NOTED}
    write_json(folder / UNLEARNED, noted)


def is_unlearned(folder: Path) -> bool:
    """Whether an earlier part of this run has unlearned to the end."""
    return (folder / UNLEARNED).is_file()


def find_unlearned(config: DictConfig, folder: Path, start: str) -> Unlearned:
    """Returns the result that an earlier part of this run has left.

    Args:
        start: the model that an adapter is of; its own record of that knows no revision.
    """
    noted = json.loads((folder / UNLEARNED).read_text(encoding="utf-8"))
    policy: CausalLM
    if (folder / MODEL / ADAPTER_CONFIG).is_file():
        policy = load_adapter(load_base(config, start)[0], folder / MODEL)
    else:
        policy = load_model(folder / MODEL)
    return Unlearned(policy, load_tokenizer(folder / MODEL), **noted)
