"""The stage that unlearns: runs policy, data, callbacks and loggers in one `Trainer.fit`."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning import seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from unlearning.checkpoints import newest_whole
from unlearning.data.datamodule import UnlearningDataModule
from unlearning.fsdp import whole_policy
from unlearning.generation.own_answers import OwnAnswers
from unlearning.metrics.likeness import bleu_to_target
from unlearning.models.decoder import CausalLM
from unlearning.models.trial import takes_tree_rows
from unlearning.run.config.build import Data, build_alternate, build_template, build_trainer
from unlearning.run.config.method import build_module, edits_weights, mismatch_per_prompt
from unlearning.run.output.progress import StageProgress
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.answers import kept_answers
from unlearning.run.stages.callbacks import (
    CHECKPOINTS,
    Callbacks,
    callbacks,
    kept_steps,
    stop_reason,
)
from unlearning.run.stages.context import RunContext
from unlearning.run.stages.edit_weights import edit_weights
from unlearning.run.stages.models import Judge, load_base
from unlearning.run.stages.own_answers import retain_and_mismatch
from unlearning.run.stages.unlearned import (
    Unlearned,
    find_unlearned,
    is_unlearned,
    keep_unlearned,
)
from unlearning.run.stages.utility import utility_examples
from unlearning.run.stages.watched import Watched, watched

log = logging.getLogger(__name__)


def unlearn_or_find(
    run: RunContext,
    judge: Judge,
    start: str,
    base: str,
    own: OwnAnswers | None = None,
    alternate: OwnAnswers | None = None,
) -> Unlearned:
    """Runs the stage `unlearn`, or loads what an earlier part of this run has unlearned.

    Args:
        own: answers of the model to the retain prompts, where it trains on them.
        alternate: its other answers to the forget prompts, likewise.
    """
    config, folder = run.config, run.folder
    with run.stage("unlearn") as notes:
        if run.ranks.share(is_unlearned(folder)):
            result = find_unlearned(config, folder, start)
        elif edits_weights(config):
            result = edit_weights(config, folder, start, run.data, run.store, run.tracking)
        else:
            prompts = watched(config, run.data, run.sets)
            watch = partial(
                callbacks, config, folder, watched=prompts, scorer=judge.scorer,
                stop_at=_stop_at(run, base, prompts), after_save=run.stages.note,
                retain=utility_examples(config, run.data),
            )  # fmt: skip
            result = unlearn(
                config, folder, start, base, run.data, watch, run.ranks,
                run.tracking.loggers("unlearn"), own, alternate,
            )  # fmt: skip
        notes += [f"{result.steps} steps", *([result.stop_reason] if result.stop_reason else [])]
    return result


def _stop_at(run: RunContext, base: str, prompts: Watched | None) -> float | None:
    """Computes the BLEU at which the training stops: that of the model before fine-tuning on the
    same passages. None where it never does."""
    config, settings = run.config, run.config.callbacks.bleu
    book = prompts is not None and prompts.kind == "copyright"
    if not (settings and settings.stop and book) or config.finetune is None:
        return None
    assert prompts is not None
    sets = [prompts.prompt_set(settings.prompts)]
    found = bleu_to_target.statistic(
        kept_answers(config, run.store, base, sets, "original", None, {})[0]
    )
    return None if found is None or math.isnan(found.value) else found.value


def unlearn(
    config: DictConfig,
    folder: Path,
    start: str,
    base: str,
    data: Data,
    watch: Callable[[Any], Callbacks],
    ranks: Ranks,
    loggers: list[Logger],
    own: OwnAnswers | None = None,
    alternate: OwnAnswers | None = None,
) -> Unlearned:
    """Unlearns from the model `start`, resuming from the folder's last checkpoint if it has one.

    All ranks enter; rank 0 saves the model before it leaves.

    Args:
        base: the model before any fine-tuning; the reference where `reference.of=base`.
        watch: makes the callbacks for a tokenizer, see `unlearning.run.stages.callbacks`.
    """
    checkpoint = ranks.share(_text(last_checkpoint(folder) if ranks.leads else None))
    policy, tokenizer = load_base(config, start, keep_dropout=config.unlearn.keep_dropout)
    stream = _stream(config, data, policy, tokenizer, own, alternate)
    of_base = config.reference.of == "base" and start != base
    other = load_base(config, base)[0] if of_base else None
    seed_everything(config.seed, verbose=False)  # whatever was trained or kept before
    module = build_module(config, policy, other)
    del other  # the module alone holds its reference: it lets that go once its states are cached
    callbacks = watch(tokenizer)
    trainer = build_trainer(
        config, max_steps=config.unlearn.max_steps,
        callbacks=[*callbacks.values(), StageProgress("unlearn")],
        accumulate_grad_batches=config.unlearn.accumulate_grad_batches,
        gradient_clip_val=config.unlearn.gradient_clip_val, logger=loggers or False,
        default_root_dir=folder,
    )  # fmt: skip
    with ranks.together(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")  # none is wanted here
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=True)
        unlearned = whole_policy(trainer, module)
    cut = [
        f"{n} {name} answers were cut to data.max_length={stream.max_length}"
        for name, n in stream.truncated.items()
        if n
    ]
    notes = cut + [note for said in (own, alternate) if said is not None for note in said.notes()]
    # The module is let go: its optimizer's state is as large as two models.
    result = Unlearned(
        unlearned, tokenizer, trainer.global_step, stop_reason(callbacks), notes,
        reference=type(getattr(module, "reference", None)).__name__,
        signal=callbacks["interrupt"].signal,  # type: ignore[attr-defined]
        kept_steps=kept_steps(callbacks, trainer.global_step),
    )  # fmt: skip
    if ranks.leads and result.signal is None:
        keep_unlearned(config, folder, result)
    return result


def _stream(
    config: DictConfig,
    data: Data,
    policy: CausalLM,
    tokenizer: Any,
    own: OwnAnswers | None,
    alternate: OwnAnswers | None = None,
) -> UnlearningDataModule:
    forget = data["forget"]
    assert forget is not None  # validate() saw to it
    retain, mismatch_from = retain_and_mismatch(config, data, own)
    layout = config.data.layout
    if layout == "auto":
        layout = "tree" if takes_tree_rows(policy) else "padded"
    return UnlearningDataModule(
        forget, retain, tokenizer, build_template(config),
        mismatch_per_prompt=mismatch_per_prompt(config), batch_size=config.unlearn.batch_size,
        retain_batch_size=config.unlearn.retain_batch_size, seed=config.seed,
        max_length=config.data.max_length, layout=layout, cache_dir=config.cache_dir,
        alternate=build_alternate(config) if alternate is None else alternate.examples,
        alternates_per_prompt=config.data.get("alternates_per_prompt", 1),
        mismatch_from=mismatch_from,
    )  # fmt: skip


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest whole checkpoint of a run folder; logs which newer ones were not whole.

    None where unlearning had not come to one.
    """
    newest, skipped = newest_whole(folder / CHECKPOINTS)
    for told in skipped:
        log.warning(told)
    return newest


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
