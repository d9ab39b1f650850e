"""The result of the unlearning stage: saved at once, and found again by a resume."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from peft import PeftModel

from unlearning.files.atomic import atomic_write, remove, set_aside, write_json
from unlearning.files.made import Made, content_sum
from unlearning.files.parsing import read_json
from unlearning.files.sums import changed_file, sums_of_folder
from unlearning.models.adapter import merge_adapter
from unlearning.models.adapter_io import CONFIG as ADAPTER_CONFIG
from unlearning.models.adapter_io import load_adapter
from unlearning.models.decoder import CausalLM
from unlearning.models.gguf import is_gguf
from unlearning.models.load import load_model, load_tokenizer, save_model
from unlearning.run.output.run_folder import UNLEARNED
from unlearning.run.stages.models import load_base

log = logging.getLogger(__name__)


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


NOTED = ("steps", "stop_reason", "notes", "reference")
NEWER = ("kept_steps",)  # absent from a run that version 0.5 unlearned
MODEL = "model"
FILES = "files"  # of the model, with their checksums


def keep_unlearned(config: DictConfig, folder: Path, result: Unlearned) -> None:
    """Saves the model at once, so that the unlearning is not lost whatever fails later.

    An adapter on a model that only lies among the kept results is merged into it.
    """
    policy = result.policy
    assert policy is not None
    recipe, tuned = config.model.base is not None, config.finetune is not None
    kept = recipe or tuned or is_gguf(config.model.name_or_path)
    if isinstance(policy, PeftModel) and kept:
        policy = result.policy = merge_adapter(policy)
    _make_room(folder)
    with atomic_write(folder / MODEL) as aside:
        save_model(policy, result.tokenizer, aside)
        Made(folder).note(MODEL, content_sum(aside))
    noted = {name: getattr(result, name) for name in (*NOTED, *NEWER)}
    write_json(folder / UNLEARNED, {**noted, FILES: sums_of_folder(folder / MODEL)})


def _make_room(folder: Path) -> None:
    """Removes a model that this run saved without recording it; renames one of other origin."""
    path = folder / MODEL
    if not os.path.lexists(path):
        return
    if Made(folder).owns(MODEL):
        return remove(path)
    log.warning("%s was not made by this run, and is now %s.", path, set_aside(path, "found"))


def mend_unlearned(folder: Path) -> None:
    """Sets a damaged result of the unlearning aside, so that a resume goes on from its last
    checkpoint. One of version 0.5 or before has no checksums, and counts as whole."""
    if not is_unlearned(folder):
        return
    try:
        noted = read_json(folder / UNLEARNED)
        lacking = [name for name in NOTED if name not in noted]
        problem = f"{UNLEARNED} lacks {', '.join(lacking)}" if lacking else None
        if problem is None and FILES in noted:
            problem = changed_file(folder / MODEL, noted[FILES])
    except (ValueError, TypeError, OSError) as error:
        problem = f"{UNLEARNED} cannot be read: {error}"
    if problem is None:
        return
    moved = [set_aside(folder / name, "damaged") for name in (UNLEARNED, MODEL)
             if (folder / name).exists()]  # fmt: skip
    log.warning(
        "The unlearned model is damaged (%s) and is made again from the last checkpoint; it is now "
        "%s.", problem, " and ".join(map(str, moved)),
    )  # fmt: skip


def is_unlearned(folder: Path) -> bool:
    """Whether an earlier part of this run has unlearned to the end."""
    return (folder / UNLEARNED).is_file()


def find_unlearned(config: DictConfig, folder: Path, start: str) -> Unlearned:
    """Returns the result that an earlier part of this run has left.

    Args:
        start: the model that an adapter is of; its own record of that knows no revision.
    """
    found = read_json(folder / UNLEARNED)
    noted = {name: found.get(name) for name in (*NOTED, *NEWER)}
    policy: CausalLM
    if (folder / MODEL / ADAPTER_CONFIG).is_file():
        policy = load_adapter(load_base(config, start)[0], folder / MODEL)
    else:
        policy = load_model(folder / MODEL)
    return Unlearned(policy, load_tokenizer(folder / MODEL), **noted)
