"""The stages in order.

classifier -> base -> [evaluate(original) -> finetune] -> evaluate(before) -> unlearn
    -> evaluate(after) -> report
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from unlearning.checkpoints import clean
from unlearning.classifier.scorer import HarmScorer
from unlearning.errors import INTERRUPTED, PREEMPTED
from unlearning.metrics.comparison import compare
from unlearning.metrics.generations import write_generations
from unlearning.report import model_card, write_report
from unlearning.run.checks.architecture import check_architecture
from unlearning.run.checks.data import Data, check_together, on_hub
from unlearning.run.checks.devices import check_devices, take_device
from unlearning.run.checks.validate import validate
from unlearning.run.config.build import build_data, comparison_settings, prompt_sets
from unlearning.run.config.debug import limited
from unlearning.run.config.method import edits_weights
from unlearning.run.output.console import Stages, console
from unlearning.run.output.results import package_versions, peak_memory_mb, write_json
from unlearning.run.output.run_folder import (
    REPORT,
    SECONDS,
    check_data_unchanged,
    check_folder,
    claim,
    forget_earlier_run,
    save_config,
)
from unlearning.run.output.store import Store
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.answers import GENERATIONS, answers, kept_answers, similarities, summary
from unlearning.run.stages.callbacks import CHECKPOINTS, callbacks
from unlearning.run.stages.edit_weights import edit_weights
from unlearning.run.stages.facts import book_facts
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.stages.models import base_model, classifier, judges_harm
from unlearning.run.stages.unlearn import MODEL, Unlearned, find_unlearned, is_unlearned, unlearn
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Generation, PromptSet

KEPT = "kept from an earlier run"


def run(config: DictConfig, folder: Path, resume: bool = False) -> Path | None:
    """One run from records to report, in this process.

    Args:
        config: composed and complete.
        folder: the run folder; must not hold a finished run.
        resume: go on with the folder's run from where it stopped.

    Returns:
        The report's path; None after `validate=true` or an interruption.

    Raises:
        ConfigError: before any work starts, for anything a user can have got wrong.
    """
    check(config, folder, resume)
    if config.validate:
        return None
    with claim(folder):
        prepare(config, folder, resume)
        return folder / REPORT if go(config, folder) == 0 else None


def check(config: DictConfig, folder: Path, resume: bool = False, world: int = 1) -> int:
    """Whether the run can start.

    Args:
        world: how many processes there are already.

    Returns:
        How many it needs.

    Raises:
        ConfigError: for anything a user can have got wrong.
    """
    check_folder(folder, resume)
    config = limited(config)
    needed = check_devices(config, world)
    lines = validate(config)
    if config.validate:
        for line in lines:
            console.print(f"  {line}", markup=False)
        console.print("The configuration is valid; nothing was loaded or trained.", markup=False)
    return needed


def prepare(config: DictConfig, folder: Path, resume: bool = False) -> None:
    """Make the run folder, with the configuration that a resumed run goes by."""
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        forget_earlier_run(folder)
        save_config(limited(config), folder)


def go(config: DictConfig, folder: Path, ranks: Ranks | None = None) -> int:
    """The stages of a run that was checked and prepared, on every one of its ranks.

    Returns:
        The exit code: 0 after a report, another one after an interruption.
    """
    config, ranks = limited(config), ranks or Ranks()
    seed_everything(config.seed, verbose=False)
    take_device(config)
    seconds = folder / SECONDS if ranks.leads else None
    stages, data = Stages(_number_of_stages(config), seconds), build_data(config)
    if on_hub(data):  # what is there is known only now; the rest was looked through already
        check_together(config, data)
    check_architecture(config, online=True)
    if ranks.leads:
        check_data_unchanged(folder, _fingerprints(data))
    with Tracking(config, folder, ranks.rank) as tracking:
        store = Store(config.cache_dir, ranks)
        start = _make_ready(config, stages, data, store, tracking)
        result = _unlearn(config, folder, stages, data, start, store, tracking)
        if result.signal is not None:
            code = PREEMPTED if result.signal == signal.SIGTERM else INTERRUPTED
            tracking.stopped(code)
            return code
        if ranks.leads:
            _evaluate(config, folder, stages, data, start, result, tracking)
    ranks.share()  # the others are there until the report is
    return 0


@dataclass
class Start:
    """What there is before unlearning.

    Args:
        base: name or folder of the model before any fine-tuning.
        model: name or folder of the model that unlearns.
        finetuned: what is to be said about the fine-tuning.
        original: answers of `base`; None without a fine-tuning.
        before: answers of `model`.
        scores: of the classifier, held out.
    """

    base: str
    model: str
    sets: list[PromptSet]
    before: list[Generation]
    original: list[Generation] | None
    finetuned: dict[str, Any]
    scorer: HarmScorer | None
    scores: dict[str, Any]


def _make_ready(
    config: DictConfig, stages: Stages, data: Data, store: Store, tracking: Tracking
) -> Start:
    """Everything that runs with other loss weights share, made or kept from one of them."""
    scorer, scores, sets = None, dict[str, Any](), prompt_sets(config, data)
    if judges_harm(config):
        with stages.stage("classifier") as notes:
            scorer, scores, kept = classifier(config, store, tracking)
            tracking.evaluated("classifier", scores)
            notes += [KEPT] * kept + _held_out(scores)
    with stages.stage("base") as notes:
        base, kept = base_model(config, store, tracking)
        notes += [KEPT] * kept or [base] * (config.model.base is None)
    model, finetuned, original = base, dict[str, Any](), None
    if config.finetune is not None:
        with stages.stage("evaluate original") as notes:
            original, kept = kept_answers(config, store, base, sets, "original", scorer, scores)
            notes += [KEPT] * kept + summary(original, config)
        with stages.stage("finetune") as notes:
            model, finetuned, kept = finetuned_model(config, store, base, data, tracking)
            tracking.evaluated("finetune", finetuned)
            notes += [KEPT] * kept + [f"{finetuned['steps']} steps"] * ("steps" in finetuned)
    with stages.stage("evaluate before") as notes:
        before, kept = kept_answers(config, store, model, sets, "before", scorer, scores)
        notes += [KEPT] * kept + summary(before, config)
    return Start(base, model, sets, before, original, finetuned, scorer, scores)


def _unlearn(
    config: DictConfig,
    folder: Path,
    stages: Stages,
    data: Data,
    start: Start,
    store: Store,
    tracking: Tracking,
) -> Unlearned:
    """What was unlearned, now or by an earlier part of this run."""
    with stages.stage("unlearn") as notes:
        if store.ranks.share(is_unlearned(folder)):
            result = find_unlearned(config, folder, start.model)
        elif edits_weights(config):
            result = edit_weights(config, folder, start.model, data, store, tracking)
        else:
            watch = partial(
                callbacks, config, folder, prompts=start.sets, scorer=start.scorer,
                original=start.original, after_save=stages.note,
            )  # fmt: skip
            result = unlearn(
                config, folder, start.model, start.base, data, watch, store.ranks,
                tracking.loggers("unlearn"),
            )  # fmt: skip
        notes += [f"{result.steps} steps", *([result.stop_reason] if result.stop_reason else [])]
    return result


def _evaluate(
    config: DictConfig,
    folder: Path,
    stages: Stages,
    data: Data,
    start: Start,
    result: Unlearned,
    tracking: Tracking,
) -> None:
    """Ask the unlearned model, compare, and write it all down."""
    with stages.stage("evaluate after") as notes:
        assert result.policy is not None
        after = answers(config, result.policy, result.tokenizer, start.sets, "after", start.scorer)
        everything = [*(start.original or []), *start.before, *after]
        write_generations(folder / GENERATIONS, everything)
        notes += summary(after, config)
    with stages.stage("report"):
        compared = compare(
            start.before, after, _kinds(start.sets), comparison_settings(config),
            similarities(config), start.original,
        )  # fmt: skip
        facts = _facts(config, stages, start, result, data)
        metrics = {**compared, **facts}
        if start.finetuned:
            metrics["finetune"] = start.finetuned
        plain: Any = OmegaConf.to_container(config, resolve=True)
        card = model_card(metrics, plain)
        (folder / MODEL / "README.md").write_text(card, encoding="utf-8")
        # Last of all, since a folder with metrics.json counts as finished.
        write_json(folder / "metrics.json", metrics)
        report = write_report(folder)
        tracking.generations(start.before, after)
        tracking.report(report, metrics)
        settings = config.callbacks.checkpoint
        clean(folder / CHECKPOINTS, settings.finished if settings else "last")
    console.print(f"Model:  {folder / MODEL}\nReport: {report}", markup=False)


def _number_of_stages(config: DictConfig) -> int:
    """base, evaluate before, unlearn, evaluate after and report; the others where asked for."""
    return 5 + judges_harm(config) + 2 * (config.finetune is not None)


def _kinds(sets: list[PromptSet]) -> dict[str, str]:
    return {prompt_set.name: prompt_set.kind for prompt_set in sets}


def _facts(
    config: DictConfig, stages: Stages, start: Start, result: Unlearned, data: Data
) -> dict[str, Any]:
    """Everything in metrics.json that is no score of the answers."""
    scores = start.scores
    return {
        "prompt_sets": _kinds(start.sets),
        "steps": result.steps,
        "stop_reason": result.stop_reason,
        "notes": result.notes,
        "seconds": {name: round(stages.seconds[name], 2) for name in stages.done},
        "peak_memory_mb": peak_memory_mb(),
        "reference": result.reference,
        **({} if config.finetune is None else {"reference_of": config.reference.of}),
        **({"classifier": {**scores, "threshold": config.classifier.threshold}} if scores else {}),
        **book_facts(data["forget"]),
        "fingerprints": _fingerprints(data),
        "versions": package_versions(),
    }


def _fingerprints(data: Data) -> dict[str, str]:
    return {name: module.fingerprint() for name, module in data.items() if module is not None}


def _held_out(scores: dict[str, Any]) -> list[str]:
    accuracy = scores.get("accuracy")
    return [] if accuracy is None else [f"held-out accuracy {accuracy:.1%}"]
