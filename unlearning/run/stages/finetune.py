"""The stage that fine-tunes the base model on what is to be forgotten."""

from __future__ import annotations

import json
import math
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel
from torch.utils.data import ConcatDataset

from unlearning.data.finetuning import FinetuningDataModule
from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.finetune import CausalLMModule
from unlearning.fsdp import whole_policy
from unlearning.models.adapter import merge_adapter
from unlearning.models.adapter_io import load_adapter, save_adapter
from unlearning.models.decoder import CausalLM
from unlearning.models.load import check_context, save_model
from unlearning.models.trial import takes_tree_rows
from unlearning.run.config.build import Data, build_template, build_trainer, numerics
from unlearning.run.output.progress import StageProgress
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.learned import check_learned, learned, learned_notes
from unlearning.run.stages.models import load_base
from unlearning.run.stages.taught import Sets, existing, finetuned_sets, tokenized_sets
from unlearning.run.stages.user_callbacks import finetuning_callbacks
from unlearning.run.tracking.trackers import Tracking

ADAPTER, MERGED, FACTS = "adapter", "merged", "finetune.json"


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model by its folder, and the facts of its training."""

    model: str
    facts: dict[str, Any] = field(default_factory=dict)


def finetune(run: RunContext, base: str) -> Finetuned:
    """Runs the stage `finetune`; returns the base model where none is configured.

    Raises:
        RequirementError: it taught less than `finetune.require` asks for.
    """
    if run.config.finetune is None:
        return Finetuned(base)
    with run.stage("finetune") as notes:
        model, facts, kept = finetuned_model(run.config, run.store, base, run.data, run.tracking)
        measured = learned(run, base, model)
        facts = {**facts, **({"learned": measured} if measured else {})}
        run.tracking.evaluated("finetune", facts)
        notes += [KEPT] * kept + [f"{facts['steps']} steps"] * ("steps" in facts)
        notes += learned_notes(measured)
    check_learned(run.config, measured)
    return Finetuned(model, facts)


def finetuned_model(
    config: DictConfig,
    store: Store,
    base: str,
    data: Data,
    tracking: Tracking,
    sets: Sets | None = None,
    stage: str = "finetune",
) -> tuple[str, dict[str, Any], bool]:
    """Returns the base model, fine-tuned on some of the data sets, with its adapter merged in.

    Args:
        sets: what it is trained on; None takes `finetune.sets`.
        stage: its name among the kept results, and of its training curves.

    Returns:
        The model's folder, what is to be said about its training, and whether it was kept.
    """
    settings, sets = config.finetune, sets or finetuned_sets(config)
    inputs = {
        "finetune": _recipe(settings),
        "base": model_identity(base, config.model.revision),
        "tokenizer": model_identity(config.model.tokenizer or base, config.model.revision),
        "adapter": None if settings.load is None else model_identity(settings.load),
        "data": {name: [existing(data, name).fingerprint(), sets[name]] for name in sets},
        "template": repr(build_template(config)),
        "numerics": numerics(config),
        "ranks": store.ranks.world,
        "seed": settings.seed,
    }

    def make(folder: Path) -> None:
        leads = store.ranks.leads
        if leads:
            folder.mkdir()
        started = time.perf_counter()
        if settings.load is None:
            trained = _train(config, base, data, sets, folder, leads, tracking, stage)
        else:
            trained = _load(config, base, folder)
        if not leads:
            return
        facts = {"method": method(settings), **trained}
        write_json(folder / FACTS, {**facts, "seconds": round(time.perf_counter() - started, 1)})

    folder, kept = store.get(stage, inputs, make, together=settings.load is None)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return str(folder / MERGED), facts, kept


def _recipe(settings: DictConfig) -> dict[str, Any]:
    """Returns the settings of the fine-tuning without the names of its data sets, its seed and
    what is required of it."""
    plain: dict[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    return {name: value for name, value in plain.items() if name not in ("sets", "seed", "require")}


def _train(
    config: DictConfig,
    base: str,
    data: Data,
    sets: Sets,
    folder: Path,
    leads: bool,
    tracking: Tracking,
    stage: str,
) -> dict[str, Any]:
    """Trains on all ranks; rank 0 saves."""
    settings = _recipe(config.finetune)
    model, tokenizer = load_base(config, base, eight_bit=settings["eight_bit"])
    check_context(model, settings["context_length"])
    seed_everything(config.finetune.seed, verbose=False)  # whatever was trained or kept before
    tokenized = tokenized_sets(config, data, sets, tokenizer)
    parts: list[Any] = [part.sequences for found in tokenized.values() for part in found]
    examples: Any = ConcatDataset(parts)  # read one by one, as its parts are
    stream = FinetuningDataModule(
        examples, tokenizer, context_length=settings["context_length"],
        batch_size=settings["batch_size"], seed=config.finetune.seed,
        packing=settings["packing"] and takes_tree_rows(model),
    )  # fmt: skip
    options = ("optimizer", "learning_rate", "optimizer_options", "schedule", "warmup_steps")
    module = CausalLMModule(
        model, lora=settings["adapter"], gradient_checkpointing=settings["gradient_checkpointing"],
        **{name: settings[name] for name in options},
    )  # fmt: skip
    trainer = build_trainer(
        config, max_steps=settings["max_steps"], max_epochs=settings["epochs"],
        accumulate_grad_batches=settings["accumulate_grad_batches"],
        gradient_clip_val=settings["gradient_clip_val"], logger=tracking.loggers(stage) or False,
        callbacks=[*finetuning_callbacks(config).values(), StageProgress(stage)],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")  # nothing is held out
        trainer.fit(module, stream)
    policy = whole_policy(trainer, module)
    nll = float(trainer.callback_metrics["train/nll"])
    if not math.isfinite(nll):
        raise ConfigError(
            f"The fine-tuning diverged: its loss is {nll} after {trainer.global_step} steps. Lower "
            f"finetune.learning_rate={settings['learning_rate']}, or set finetune.warmup_steps."
        )
    if leads:
        assert policy is not None
        _save(policy, tokenizer, folder)
    return {
        "steps": trainer.global_step, "epochs": trainer.current_epoch, "final_nll": nll,
        "examples": {n: sum(len(p.sequences) for p in tokenized[n]) for n in tokenized},
        "cut_answers": sum(part.truncated for parts in tokenized.values() for part in parts),
    }  # fmt: skip


def _save(policy: CausalLM, tokenizer: Any, folder: Path) -> None:
    if isinstance(policy, PeftModel):
        save_adapter(policy, folder / ADAPTER)
        policy = merge_adapter(policy)
    save_model(policy, tokenizer, folder / MERGED)


def _load(config: DictConfig, base: str, folder: Path) -> dict[str, Any]:
    """Merges an existing adapter of this base model."""
    model, tokenizer = load_base(config, base)
    save_model(merge_adapter(load_adapter(model, config.finetune.load)), tokenizer, folder / MERGED)
    return {"adapter": str(config.finetune.load)}


def method(settings: DictConfig) -> str:
    """Describes how the model was fine-tuned, for the report."""
    adapter = settings.adapter
    if settings.load is not None:
        return "an adapter trained before"
    if adapter is None:
        return "all weights trained"
    name = {"lora": "LoRA", "adalora": "AdaLoRA"}[adapter.get("kind", "lora")]
    return f"{name}, rank {adapter.get('r', 16)}" + (
        " on an 8-bit base" if settings.eight_bit else ""
    )
