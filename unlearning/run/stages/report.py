"""Writes what a finished run leaves: `metrics.json`, model card and report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from unlearning.checkpoints import clean
from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.files.made import Made
from unlearning.metrics.comparison import compare, compared
from unlearning.metrics.generations import write_generations
from unlearning.metrics.prompt_sets import described, is_judged
from unlearning.metrics.resamples import RESAMPLES, resamples, write_resamples
from unlearning.report import model_card, write_report
from unlearning.run.config.aggregates import aggregates
from unlearning.run.config.build import comparison_settings
from unlearning.run.config.evaluate import evaluated_models
from unlearning.run.output.console import console
from unlearning.run.output.results import package_versions, peak_memory_mb
from unlearning.run.stages.answers import GENERATIONS, metrics_by_set
from unlearning.run.stages.callbacks import CHECKPOINTS
from unlearning.run.stages.context import RunContext
from unlearning.run.stages.facts import book_facts, fingerprints
from unlearning.run.stages.models import Judge
from unlearning.run.stages.oracle import STAGE as ORACLE
from unlearning.run.stages.unlearned import MODEL, Unlearned
from unlearning.types import Generation

log = logging.getLogger(__name__)

Models = Mapping[str, list[Generation]]
"""The answers of each model, by stage; `original`, `oracle`, `before`, `after` in this order."""


def report(
    run: RunContext,
    judge: Judge,
    answers: Models,
    unlearned: Unlearned,
    trained: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Runs the stage `report` of a run that unlearned.

    Args:
        trained: by stage, what is to be said about the trainings before unlearning.

    Returns:
        The report's path.
    """
    folder, config = run.folder, run.config
    write_generations(folder / GENERATIONS, chain.from_iterable(answers.values()))
    with run.stage("report"):
        metrics = {
            **_scores(run, answers),
            **_facts(run, judge),
            **_unlearning_facts(run, unlearned),
            **{stage: dict(facts) for stage, facts in trained.items() if facts},
        }
        plain: Any = OmegaConf.to_container(config, resolve=True)
        _write_card(folder, model_card(metrics, plain))
        # Last of all, since a folder with metrics.json counts as finished.
        write_json(folder / "metrics.json", metrics)
        path = write_report(folder)
        run.tracking.generations(answers["before"], answers["after"])
        run.tracking.report(path, metrics)
        settings = config.callbacks.checkpoint
        clean(folder / CHECKPOINTS, settings.finished if settings else "last")
    console.print(f"Model:  {folder / MODEL}\nReport: {path}", markup=False)
    return path


def _write_card(folder: Path, card: str) -> None:
    """Writes the model's README.md, unless somebody else has put one there meanwhile."""
    try:
        Made(folder).write({f"{MODEL}/README.md": card.encode()}, recognised=lambda found: False)
    except ConfigError as error:
        log.warning("The model card is not written: %s", error)


def report_evaluation(run: RunContext, judge: Judge, answers: Models) -> Path:
    """Runs the stage `report` of an evaluation.

    Args:
        answers: of one model, or of two to compare, by stage.

    Returns:
        The report's path.
    """
    folder = run.folder
    write_generations(folder / GENERATIONS, chain.from_iterable(answers.values()))
    with run.stage("report"):
        models = evaluated_models(run.config).items()
        metrics = {
            **_scores(run, answers),
            **_facts(run, judge),
            "evaluated": {stage: name or "model.base" for stage, name in models},
            "notes": _notes(run, judge),
        }
        write_json(folder / "metrics.json", metrics)
        path = write_report(folder)
        if len(answers) == 2:
            run.tracking.generations(*answers.values())
        run.tracking.report(path, metrics)
    console.print(f"Report: {path}", markup=False)
    return path


def _notes(run: RunContext, judge: Judge) -> list[str]:
    """Describes what was not measured, for lack of a data set or a classifier."""
    asked = {prompt_set.name for prompt_set in run.sets}
    unjudged = [each.name for each in run.sets if is_judged(each)]
    harm = f"There is no classifier, so that harm was not measured on {', '.join(unjudged)}."
    return [harm] * bool(unjudged and judge.scorer is None) + [
        f"Prompt set {name} was left out: there is no data.{settings.source}."
        for name, settings in run.config.evaluation.prompt_sets.items()
        if settings is not None and name not in asked
    ]


def _scores(run: RunContext, answers: Models) -> dict[str, Any]:
    """Compares the models, describes the prompt sets, and writes the resampled values."""
    measured, settings = metrics_by_set(run.config, run.sets), comparison_settings(run.config)
    apart = "original" not in answers  # else an oracle would stand first, for `*_to_original`
    models = {s: found for s, found in answers.items() if not (apart and s == ORACLE)}
    joint = aggregates(run.config, run.sets, answers)
    found = compared(models, measured, settings, joint)
    scores = found.to_json()
    write_resamples(run.folder / RESAMPLES, resamples(found, models))
    if apart and ORACLE in answers:
        alone = {
            f"{name}/{metric.name}"
            for name, metrics in measured.items()
            for metric in metrics
            if metric.against is None
        }
        own = {name: each for name, each in joint.items() if set(each.of) <= alone}
        scores[ORACLE] = compare({ORACLE: answers[ORACLE]}, measured, settings, own)[ORACLE]
        scores["models"] = list(answers)
    return {**scores, "prompt_sets": described(run.sets, measured)}


def _facts(run: RunContext, judge: Judge) -> dict[str, Any]:
    """Collects what metrics.json says about any run beside the scores of the answers."""
    scores, stages, data = judge.scores, run.stages, run.data
    threshold = {"threshold": run.config.classifier.threshold}
    return {
        "seconds": {name: round(stages.seconds[name], 2) for name in stages.done},
        "peak_memory_mb": peak_memory_mb(),
        **({"classifier": {**scores, **threshold}} if scores else {}),
        **book_facts(data["forget"]),
        "fingerprints": fingerprints(run.config, data),
        "versions": package_versions(),
    }


def _unlearning_facts(run: RunContext, unlearned: Unlearned) -> dict[str, Any]:
    return {
        "steps": unlearned.steps,
        "kept_steps": unlearned.kept_steps,
        "stop_reason": unlearned.stop_reason,
        "notes": unlearned.notes,
        "reference": unlearned.reference,
        **({} if run.config.finetune is None else {"reference_of": run.config.reference.of}),
    }
