"""The stages that provide models: the harm classifier and the base model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearning.classifier.pretrained import load_tokenizer as load_classifier_tokenizer
from unlearning.classifier.scorer import HarmScorer
from unlearning.classifier.tiny import tiny_bert
from unlearning.classifier.train import SCORES_FILE, train_classifier
from unlearning.models.gguf import check_gguf, is_gguf
from unlearning.models.load import (
    check_context,
    check_vocabulary,
    load_model,
    load_tokenizer,
    save_model,
)
from unlearning.pretrain import train_base
from unlearning.progress import working
from unlearning.run.config.build import (
    build_base_data,
    build_classifier_data,
    build_classifier_tokenizer,
    build_template,
    build_trainer,
    numerics,
    trainer_options,
)
from unlearning.run.output.progress import StageProgress
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.tracking.trackers import Tracking


@dataclass(frozen=True)
class Judge:
    """The harm classifier with its held-out scores; empty where there is none."""

    scorer: HarmScorer | None = None
    scores: dict[str, Any] = field(default_factory=dict)


def train_judge(run: RunContext) -> Judge:
    """Runs the stage `classifier`, where there is one."""
    if not judges_harm(run.config):
        return Judge()
    with run.stage("classifier") as notes:
        scorer, scores, kept = classifier(run.config, run.store, run.tracking)
        run.tracking.evaluated("classifier", scores)
        accuracy = scores.get("accuracy")
        notes += [KEPT] * kept
        notes += [] if accuracy is None else [f"held-out accuracy {accuracy:.1%}"]
    return Judge(scorer, scores)


def make_base(run: RunContext) -> str:
    """Runs the stage `base`; returns name or folder of the model to start from."""
    with run.stage("base") as notes:
        base, kept = base_model(run.config, run.store, run.tracking)
        notes += [KEPT] * kept or [base] * (run.config.model.base is None)
    return base


def judges_harm(config: DictConfig) -> bool:
    """Whether the configuration has a harm classifier."""
    return config.classifier.model is not None or config.classifier.tiny is not None


def classifier(
    config: DictConfig, store: Store, tracking: Tracking
) -> tuple[HarmScorer | None, dict[str, Any], bool]:
    """Returns the harm classifier: trained and kept, loaded, or none.

    Returns:
        The scorer, its held-out scores with `id`, and whether it was kept from an earlier run.
    """
    settings = config.classifier
    if not judges_harm(config):
        return None, {}, False
    if settings.train is None:
        return _scorer(config, settings.model), {"id": model_identity(settings.model)}, False
    data = build_classifier_data(config)
    inputs = {
        "settings": _plain(settings, leave_out=("labels", "batch_size", "seed")),
        "numerics": numerics(config),
        "data": data.fingerprint(),
        "model": model_identity(settings.model) if settings.model else None,
        "seed": settings.seed,
    }

    def make(folder: Path) -> None:
        seed_everything(settings.seed, verbose=False)  # not the run's: other runs use it, too
        if settings.tiny is not None:
            shape = _plain(settings.tiny)
            tokenizer = build_classifier_tokenizer(config)
            model, data.tokenizer = tiny_bert(
                data.train_texts(), num_labels=len(data.labels), seed=settings.seed,
                **{**shape, "tokenizer": tokenizer},
            )  # fmt: skip
        else:
            model = settings.model
            data.tokenizer = load_classifier_tokenizer(settings.model)
        trainer = trainer_options(
            config, alone=True, callbacks=[StageProgress("classifier")],
            max_epochs=settings.train.max_epochs, max_steps=settings.train.max_steps,
            gradient_clip_val=settings.train.gradient_clip_val,
            logger=tracking.loggers("classifier") or False,
        )  # fmt: skip
        if trainer["precision"] == "bf16-true":  # the classifier keeps no fp32 copies
            trainer["precision"] = "bf16-mixed"
        module = {
            "model": model, "lr": settings.train.lr, "threshold": settings.threshold,
            "warmup_steps": settings.train.warmup_steps,
            "weight_decay": settings.train.weight_decay,
        }  # fmt: skip
        train_classifier(module, data, folder, trainer)

    folder, kept = store.get("classifier", inputs, make)
    scores = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
    flat = {**scores.pop("any"), **scores, "id": folder.name}
    return _scorer(config, str(folder)), flat, kept


def _scorer(config: DictConfig, model: str) -> HarmScorer:
    settings, device = config.classifier, evaluation_device(config)
    return HarmScorer(
        model, settings.threshold, _plain(settings.labels), settings.batch_size,
        settings.max_length, device,
    )  # fmt: skip


def base_model(config: DictConfig, store: Store, tracking: Tracking) -> tuple[str, bool]:
    """Returns the model to unlearn from: a name or folder, or one trained from scratch and kept.

    Returns:
        Its name or folder, and whether it was kept from an earlier run.
    """
    recipe = config.model.base
    if recipe is None:
        return ordinary_folder(store, config.model.name_or_path), False
    data = build_base_data(config)
    data.cache_dir = config.cache_dir
    inputs = {
        "recipe": _plain(recipe, leave_out=("seed",)),
        "numerics": numerics(config),
        "template": repr(data.template),
        "data": data.fingerprint(),
        "seed": recipe.seed,
    }

    def make(folder: Path) -> None:
        trainer = build_trainer(
            config, alone=True, max_steps=recipe.max_steps, precision=recipe.precision,
            callbacks=[StageProgress("base")], gradient_clip_val=1.0,
            logger=tracking.loggers("base") or False,
        )  # fmt: skip
        train_base(
            data, folder, architecture=_plain(recipe.architecture), vocab_size=recipe.vocab_size,
            training=_plain(recipe.training), trainer=trainer, seed=recipe.seed,
        )  # fmt: skip

    folder, kept = store.get("base", inputs, make)
    return str(folder), kept


def ordinary_folder(store: Store, name: str) -> str:
    """Returns the folder that the model of a GGUF file is kept in, made once; other names as they
    are."""
    if not is_gguf(name):
        return name

    def make(folder: Path) -> None:
        with working(f"dequantising {Path(name).name}"):
            tokenizer = load_tokenizer(name) if check_gguf(name) else None
            save_model(load_model(name), tokenizer, folder)

    return str(store.get("gguf", {"file": model_identity(name)}, make)[0])


def load_base(
    config: DictConfig,
    base: str,
    eight_bit: bool = False,
    tokenizer: str | None = None,
    keep_dropout: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model and its tokenizer by name or folder, in the configured revision.

    Args:
        eight_bit: its weights in 8 bits, to be trained under an adapter.
        tokenizer: name or folder; None: `model.tokenizer`, or the model's own.
        keep_dropout: leave the model's own dropout rates alone.

    Raises:
        ConfigError: they do not belong together, `data.max_length` is above the context, or the
            template is none for this tokenizer.
    """
    revision = {"revision": config.model.revision} if config.model.revision else {}
    name = tokenizer or config.model.tokenizer or base
    loaded = load_tokenizer(name, **({} if Path(name).is_dir() else revision))
    build_template(config).check(loaded)
    options = {} if Path(base).is_dir() else revision
    with working("loading the model"):
        model = load_model(base, eight_bit=eight_bit, keep_dropout=keep_dropout, **options)
    check_vocabulary(model, loaded)
    check_context(model, config.data.max_length)
    return model, loaded


def evaluation_device(config: DictConfig) -> torch.device:
    """Returns the device of generation and scoring: a GPU, unless the trainer is kept on the
    CPU."""
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _plain(node: Any, leave_out: tuple[str, ...] = ()) -> Any:
    if not OmegaConf.is_config(node):
        return node
    found = OmegaConf.to_container(node, resolve=True)
    return {k: v for k, v in found.items() if k not in leave_out} if leave_out else found  # type: ignore[union-attr]
