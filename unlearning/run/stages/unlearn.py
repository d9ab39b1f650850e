"""The stage that unlearns: policy, data, callbacks and loggers into one `Trainer.fit`."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from peft import PeftModel
from transformers import AutoModelForCausalLM

from unlearning.checkpoints import newest_whole
from unlearning.data.datamodule import UnlearningDataModule
from unlearning.files import sync
from unlearning.fsdp import whole_policy
from unlearning.models.adapter import merge_adapter
from unlearning.models.adapter_io import CONFIG as ADAPTER_CONFIG
from unlearning.models.adapter_io import load_adapter
from unlearning.models.decoder import CausalLM, takes_tree_rows
from unlearning.models.load import load_tokenizer, save_model
from unlearning.run.checks.data import Data
from unlearning.run.config.build import build_alternate, build_template, build_trainer
from unlearning.run.config.method import build_module
from unlearning.run.output.progress import bar
from unlearning.run.output.results import write_json
from unlearning.run.output.run_folder import UNLEARNED
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.callbacks import CHECKPOINTS, Callbacks, stop_reason
from unlearning.run.stages.models import load_base

log = logging.getLogger(__name__)


@dataclass
class Unlearned:
    """What the stage leaves behind.

    Args:
        policy: on rank 0; a rank whose share is a part of the weights has None.
        steps: optimizer steps made.
        stop_reason: why it ended before its last step, or None.
        notes: what a reader of the report should know, such as cut answers.
        reference: which reference the KL was to.
        signal: what stopped it, if one did; then a checkpoint to resume from was saved.
    """

    policy: CausalLM | None
    tokenizer: Any
    steps: int
    stop_reason: str | None
    notes: list[str]
    reference: str
    signal: int | None = None


NOTED = ("steps", "stop_reason", "notes", "reference")
MODEL = "model"


def unlearn(
    config: DictConfig,
    folder: Path,
    start: str,
    base: str,
    data: Data,
    watch: Callable[[Any], Callbacks],
    ranks: Ranks,
    loggers: list[Logger],
) -> Unlearned:
    """Unlearn from the model `start`, from the folder's last checkpoint on if it has one.

    All ranks enter; rank 0 saves the model before it leaves.

    Args:
        base: the model before any fine-tuning; the reference where `reference.of=base`.
        watch: makes the callbacks for a tokenizer, see `unlearning.run.stages.callbacks`.
    """
    checkpoint = ranks.share(_text(last_checkpoint(folder) if ranks.leads else None))
    policy, tokenizer = load_base(config, start)
    stream = _stream(config, data, policy, tokenizer)
    of_base = config.reference.of == "base" and start != base
    other = load_base(config, base)[0] if of_base else None
    seed_everything(config.seed, verbose=False)  # whatever was trained or kept before
    module = build_module(config, policy, other)
    del other  # the module alone holds its reference: it lets that go once its states are cached
    callbacks = watch(tokenizer)
    trainer = build_trainer(
        config, max_steps=config.unlearn.max_steps,
        callbacks=[*callbacks.values(), *bar("unlearn")],
        accumulate_grad_batches=config.unlearn.accumulate_grad_batches,
        gradient_clip_val=config.unlearn.gradient_clip_val, logger=loggers or False,
        default_root_dir=folder,
    )  # fmt: skip
    with ranks.together(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")  # none is wanted here
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=True)
        unlearned = whole_policy(trainer, module)
    cut = [
        f"{n} {name} answers were cut to max_length" for name, n in stream.truncated.items() if n
    ]
    # The module is let go: its optimizer's state is as large as two models.
    result = Unlearned(
        unlearned, tokenizer, trainer.global_step, stop_reason(callbacks), cut,
        reference=type(getattr(module, "reference", None)).__name__,
        signal=callbacks["interrupt"].signal,  # type: ignore[attr-defined]
    )  # fmt: skip
    if ranks.leads and result.signal is None:
        keep_unlearned(config, folder, result)
    return result


def _stream(
    config: DictConfig, data: Data, policy: CausalLM, tokenizer: Any
) -> UnlearningDataModule:
    forget, retain = data["forget"], data["retain"]
    assert forget is not None and retain is not None  # validate() saw to it
    layout = config.data.layout
    if layout == "auto":
        layout = "tree" if takes_tree_rows(policy) else "padded"
    return UnlearningDataModule(
        forget, retain, tokenizer, build_template(config),
        mismatch_per_prompt=config.data.mismatch_per_prompt, batch_size=config.unlearn.batch_size,
        retain_batch_size=config.unlearn.retain_batch_size, seed=config.seed,
        max_length=config.data.max_length, layout=layout, cache_dir=config.cache_dir,
        alternate=build_alternate(config),
        alternates_per_prompt=config.data.get("alternates_per_prompt", 1),
    )  # fmt: skip


def keep_unlearned(config: DictConfig, folder: Path, result: Unlearned) -> None:
    """Save the model at once: whatever fails later, the unlearning is not lost.

    An adapter on a model that only lies among the kept results is merged into it.
    """
    policy = result.policy
    assert policy is not None
    kept = config.model.base is not None or config.finetune is not None
    if isinstance(policy, PeftModel) and kept:
        policy = result.policy = merge_adapter(policy)
    shutil.rmtree(folder / MODEL, ignore_errors=True)  # of a run that ended before it was noted
    save_model(policy, result.tokenizer, folder / MODEL)
    sync(folder / MODEL)  # else a power cut may leave the note without the weights
    noted = {name: getattr(result, name) for name in NOTED}
    write_json(folder / UNLEARNED, noted)


def is_unlearned(folder: Path) -> bool:
    """Whether an earlier part of this run has unlearned to the end."""
    return (folder / UNLEARNED).is_file()


def find_unlearned(config: DictConfig, folder: Path, start: str) -> Unlearned:
    """What that has left.

    Args:
        start: the model that an adapter is of; its own record of that knows no revision.
    """
    noted = json.loads((folder / UNLEARNED).read_text(encoding="utf-8"))
    policy: CausalLM
    if (folder / MODEL / ADAPTER_CONFIG).is_file():
        policy = load_adapter(load_base(config, start)[0], folder / MODEL)
    else:
        policy = AutoModelForCausalLM.from_pretrained(folder / MODEL, dtype=torch.float32)
    return Unlearned(policy, load_tokenizer(folder / MODEL), **noted)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run folder; says which newer ones were not whole.

    None where unlearning had not come to one.
    """
    newest, skipped = newest_whole(folder / CHECKPOINTS)
    for told in skipped:
        log.warning(told)
    return newest


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
