"""The stages in order.

classifier -> base -> [evaluate(original) -> finetune] -> evaluate(before) -> unlearn
    -> evaluate(after) -> report
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from unlearning.data.examples import ExampleDataModule
from unlearning.metrics.comparison import compare
from unlearning.metrics.generations import write_generations
from unlearning.report import model_card, write_report
from unlearning.run.answers import GENERATIONS, answers, kept_answers, similarities, summary
from unlearning.run.build import build_data, comparison_settings, prompt_sets
from unlearning.run.check_architecture import check_architecture
from unlearning.run.check_data import check_together, on_hub
from unlearning.run.console import Stages, console
from unlearning.run.debug import limited
from unlearning.run.finetune import book_facts, finetuned_model
from unlearning.run.models import base_model, classifier, judges_harm
from unlearning.run.results import package_versions, peak_memory_mb, write_json
from unlearning.run.store import Store
from unlearning.run.unlearn import (
    MODEL,
    Unlearned,
    find_unlearned,
    keep_unlearned,
    last_checkpoint,
    unlearn,
)
from unlearning.run.validate import check_folder, validate
from unlearning.run.watch import callbacks
from unlearning.types import PromptSet

KEPT = "kept from an earlier run"


def run(config: DictConfig, folder: Path, resume: bool = False) -> Path | None:
    """One run from records to report.

    Args:
        config: composed and complete.
        folder: the run folder; must not hold a finished run.
        resume: go on with the folder's run from where it stopped.

    Returns:
        The report's path; None after `validate=true` or an interruption.

    Raises:
        ConfigError: before any work starts, for anything a user can have got wrong.
    """
    check_folder(folder, resume)
    config = limited(config)
    if config.validate:
        for line in validate(config):
            console.print(f"  {line}", markup=False)
        console.print("The configuration is valid; nothing was loaded or trained.", markup=False)
        return None
    validate(config)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
    seed_everything(config.seed, verbose=False)
    return _stages(config, folder)


def _stages(config: DictConfig, folder: Path) -> Path | None:
    store, stages = Store(config.cache_dir), Stages(_number_of_stages(config))
    data = build_data(config)
    sets = prompt_sets(config, data)
    if on_hub(data):  # what is there is known only now; the rest was looked through already
        check_together(config, data)
    check_architecture(config, online=True)
    settings, alike = comparison_settings(config), similarities(config)
    scorer, scores = None, dict[str, Any]()
    if judges_harm(config):
        with stages.stage("classifier") as notes:
            scorer, scores, kept = classifier(config, store)
            notes += [KEPT] * kept + _held_out(scores)
    with stages.stage("base") as notes:
        base, kept = base_model(config, store)
        notes += [KEPT] * kept or [base] * (config.model.base is None)
    start, taught, original = base, dict[str, Any](), None
    if config.finetune is not None:
        with stages.stage("evaluate original") as notes:
            original, kept = kept_answers(config, store, base, sets, "original", scorer, scores)
            notes += [KEPT] * kept + summary(original, config)
        with stages.stage("finetune") as notes:
            start, taught, kept = finetuned_model(config, store, base, data["forget"])
            notes += [KEPT] * kept + [f"{taught['steps']} steps"] * ("steps" in taught)
    with stages.stage("evaluate before") as notes:
        before, kept = kept_answers(config, store, start, sets, "before", scorer, scores)
        notes += [KEPT] * kept + summary(before, config)
    with stages.stage("unlearn") as notes:
        watch = partial(callbacks, config, folder, prompts=sets, scorer=scorer, original=original)
        found = find_unlearned(config, folder, start)
        result = found or unlearn(config, folder, start, base, data, watch, last_checkpoint(folder))
        if not (found or result.interrupted):
            keep_unlearned(config, folder, result)
        notes += [f"{result.steps} steps", *([result.stop_reason] if result.stop_reason else [])]
    if result.interrupted:
        return None
    with stages.stage("evaluate after") as notes:
        after = answers(config, result.policy, result.tokenizer, sets, "after", scorer)
        write_generations(folder / GENERATIONS, [*(original or []), *before, *after])
        notes += summary(after, config)
    with stages.stage("report"):
        compared = compare(before, after, _kinds(sets), settings, alike, original)
        facts = _facts(config, stages, sets, result, scores, data)
        metrics = {**compared, **facts, **({"finetune": taught} if taught else {})}
        plain: Any = OmegaConf.to_container(config, resolve=True)
        card = model_card(metrics, plain)
        (folder / MODEL / "README.md").write_text(card, encoding="utf-8")
        # Last of all, since a folder with metrics.json counts as finished.
        write_json(folder / "metrics.json", metrics)
        report = write_report(folder)
    console.print(f"Model:  {folder / MODEL}\nReport: {report}", markup=False)
    return report


def _number_of_stages(config: DictConfig) -> int:
    """base, evaluate before, unlearn, evaluate after and report; the others where asked for."""
    return 5 + judges_harm(config) + 2 * (config.finetune is not None)


def _kinds(sets: list[PromptSet]) -> dict[str, str]:
    return {prompt_set.name: prompt_set.kind for prompt_set in sets}


def _facts(
    config: DictConfig,
    stages: Stages,
    sets: list[PromptSet],
    result: Unlearned,
    scores: dict[str, Any],
    data: dict[str, ExampleDataModule | None],
) -> dict[str, Any]:
    """Everything in metrics.json that is no score of the answers."""
    return {
        "prompt_sets": _kinds(sets),
        "steps": result.steps,
        "stop_reason": result.stop_reason,
        "notes": result.notes,
        "seconds": {name: round(seconds, 2) for name, seconds in stages.seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "reference": result.reference,
        **({} if config.finetune is None else {"reference_of": config.reference.of}),
        **({"classifier": {**scores, "threshold": config.classifier.threshold}} if scores else {}),
        **book_facts(data["forget"]),
        "fingerprints": {name: m.fingerprint() for name, m in data.items() if m is not None},
        "versions": package_versions(),
    }


def _held_out(scores: dict[str, Any]) -> list[str]:
    accuracy = scores.get("accuracy")
    return [] if accuracy is None else [f"held-out accuracy {accuracy:.1%}"]
