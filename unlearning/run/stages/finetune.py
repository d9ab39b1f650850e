"""The stage that teaches the base model what is to be forgotten, and its checks."""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel

from unlearning.data.book import LOTRDataModule
from unlearning.data.finetuning import FinetuningDataModule
from unlearning.data.split import SPLITS, Split
from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.fsdp import whole_policy
from unlearning.models.adapter import check_adapter_settings, merge_adapter
from unlearning.models.adapter_io import check_adapter_folder, load_adapter, save_adapter
from unlearning.models.decoder import CausalLM, takes_tree_rows
from unlearning.models.load import check_context, check_eight_bit, save_model
from unlearning.run.config.build import build_trainer, numerics
from unlearning.run.output.progress import bar
from unlearning.run.output.results import write_json
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.models import load_base
from unlearning.run.tracking.trackers import Tracking
from unlearning.training.optimizers import build_optimizer, build_schedule

ADAPTER, MERGED, FACTS = "adapter", "merged", "finetune.json"


def finetuned_model(
    config: DictConfig, store: Store, base: str, book: Any, tracking: Tracking
) -> tuple[str, dict[str, Any], bool]:
    """The base model, fine-tuned on the windows of `book`; with its adapter merged in.

    Args:
        book: the forget set, see `FinetuningDataModule`.

    Returns:
        The model's folder, what is to be said about its training, and whether it was kept.
    """
    settings = config.finetune
    inputs = {
        "finetune": OmegaConf.to_container(settings, resolve=True),
        "base": model_identity(base, config.model.revision),
        "tokenizer": model_identity(config.model.tokenizer or base, config.model.revision),
        "adapter": None if settings.load is None else model_identity(settings.load),
        "book": book.fingerprint(),
        "numerics": numerics(config),
        "ranks": store.ranks.world,
        "seed": config.seed,
    }

    def make(folder: Path) -> None:
        leads = store.ranks.leads
        if leads:
            folder.mkdir()
        started = time.perf_counter()
        if settings.load is None:
            taught = _train(config, base, book, folder, leads, tracking)
        else:
            taught = _load(config, base, folder)
        if not leads:
            return
        facts = {"method": method(settings), **taught}
        write_json(folder / FACTS, {**facts, "seconds": round(time.perf_counter() - started, 1)})

    folder, kept = store.get("finetune", inputs, make, together=settings.load is None)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return str(folder / MERGED), facts, kept


def _train(
    config: DictConfig, base: str, book: Any, folder: Path, leads: bool, tracking: Tracking
) -> dict[str, Any]:
    """On all ranks; the one that leads saves."""
    settings: dict[str, Any] = OmegaConf.to_container(config.finetune, resolve=True)  # type: ignore[assignment]
    model, tokenizer = load_base(config, base, eight_bit=settings["eight_bit"])
    check_context(model, settings["context_length"])
    seed_everything(config.seed, verbose=False)  # whatever was trained or kept before
    data = FinetuningDataModule(
        book, tokenizer, context_length=settings["context_length"],
        batch_size=settings["batch_size"], seed=config.seed,
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
        gradient_clip_val=settings["gradient_clip_val"], callbacks=bar("finetune"),
        logger=tracking.loggers("finetune") or False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")  # every window is taught
        trainer.fit(module, data)
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
    return {"steps": trainer.global_step, "epochs": trainer.current_epoch, "final_nll": nll}


def _save(policy: CausalLM, tokenizer: Any, folder: Path) -> None:
    if isinstance(policy, PeftModel):
        save_adapter(policy, folder / ADAPTER)
        policy = merge_adapter(policy)
    save_model(policy, tokenizer, folder / MERGED)


def _load(config: DictConfig, base: str, folder: Path) -> dict[str, Any]:
    """Merge somebody's adapter of this base model."""
    model, tokenizer = load_base(config, base)
    save_model(merge_adapter(load_adapter(model, config.finetune.load)), tokenizer, folder / MERGED)
    return {"adapter": str(config.finetune.load)}


def book_facts(forget: Any) -> dict[str, Any]:
    """What became of the book's file, for the report; nothing where the forget set is no book."""
    if not isinstance(forget, LOTRDataModule):
        return {}
    numbers: dict[Split, int] = {split: len(forget.texts(split)) for split in SPLITS}
    return {
        "book": {
            "chapters": numbers,
            "passages": {split: len(forget.examples(split)) for split in SPLITS},
            "too_short_for_a_continuation": forget.num_short,
            "held_out_but_shared_with_a_taught_chapter": forget.num_overlapping,
            "dropped_or_joined": dict(forget.counts),
        }
    }


def method(settings: DictConfig) -> str:
    """In words, for the report."""
    adapter = settings.adapter
    if settings.load is not None:
        return "an adapter trained before"
    if adapter is None:
        return "all weights trained"
    name = {"lora": "LoRA", "adalora": "AdaLoRA"}[adapter.get("kind", "lora")]
    return f"{name}, rank {adapter.get('r', 16)}" + (
        " on an 8-bit base" if settings.eight_bit else ""
    )


def check_finetune(config: DictConfig, book: Any) -> str | None:
    """Find what is wrong before anything is loaded; a line about it, None where there is nothing.

    Raises:
        ConfigError: settings that do not fit together, or a forget set that is no running text.
    """
    settings = config.finetune
    if settings is None:
        return None
    if not callable(getattr(book, "windows", None)):
        raise ConfigError(
            f"finetune teaches running text, and data.forget is a {type(book).__name__}, which has "
            "none. Use a LOTRDataModule, or finetune=none."
        )
    if settings.load is not None:
        check_adapter_folder(settings.load)
        return f"finetune: {settings.load}, as it is"
    _check_training(settings)
    if settings.adapter is not None:
        check_adapter_settings(OmegaConf.to_container(settings.adapter))  # type: ignore[arg-type]
    if settings.eight_bit:
        if settings.adapter is None:
            raise ConfigError(
                "finetune.eight_bit=true needs an adapter: 8-bit weights do not train."
            )
        check_eight_bit()
    return f"finetune: {method(settings)}"


def _check_training(settings: DictConfig) -> None:
    """Lengths, optimizer and schedule."""
    least = {"context_length": 2, "batch_size": 1, "accumulate_grad_batches": 1, "epochs": 1}
    if settings.max_steps != -1:
        least["max_steps"] = 1
    for name, smallest in least.items():
        value = settings[name]
        if not (isinstance(value, int) and value >= smallest):
            raise ConfigError(
                f"finetune.{name}={value!r} must be a whole number of at least {smallest}."
            )
    for name in ("learning_rate", "warmup_steps"):
        value = settings[name]
        if not (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0):
            raise ConfigError(f"finetune.{name}={value!r} must be a number of at least 0.")
    parameter = torch.nn.Parameter(torch.zeros(1))
    options: Any = OmegaConf.to_container(settings.optimizer_options)
    # How many steps the epochs have is known when the book is in windows.
    steps = settings.warmup_steps if settings.max_steps == -1 else settings.max_steps
    try:
        optimizer = build_optimizer(
            [parameter], settings.optimizer, settings.learning_rate, options
        )
        build_schedule(optimizer, settings.schedule, settings.warmup_steps, steps)
    except ConfigError as error:
        raise ConfigError(f"finetune: {error}") from error
