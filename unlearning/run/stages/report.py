"""Writes what a finished run leaves: `metrics.json`, model card and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from unlearning.checkpoints import clean
from unlearning.files import write_json, write_text
from unlearning.metrics.comparison import compare
from unlearning.metrics.generations import write_generations
from unlearning.metrics.prompt_sets import described
from unlearning.report import model_card, write_report
from unlearning.run.config.build import comparison_settings
from unlearning.run.config.prompt_sets import aggregates
from unlearning.run.output.console import console
from unlearning.run.output.results import package_versions, peak_memory_mb
from unlearning.run.stages.answers import GENERATIONS, metrics_by_set
from unlearning.run.stages.callbacks import CHECKPOINTS
from unlearning.run.stages.context import RunContext
from unlearning.run.stages.facts import book_facts, fingerprints
from unlearning.run.stages.models import Judge
from unlearning.run.stages.unlearned import MODEL, Unlearned
from unlearning.types import Generation


@dataclass(frozen=True)
class Answers:
    """The answers of each model; None where there was none."""

    before: list[Generation]
    after: list[Generation]
    original: list[Generation] | None = None
    oracle: list[Generation] | None = None

    def all(self) -> list[Generation]:
        parts = (self.original, self.oracle, self.before, self.after)
        return [generation for part in parts if part is not None for generation in part]


def report(
    run: RunContext,
    judge: Judge,
    answers: Answers,
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
    write_generations(folder / GENERATIONS, answers.all())
    with run.stage("report"):
        metrics = {
            **_scores(run, answers),
            **_facts(run, judge, unlearned),
            **{stage: dict(facts) for stage, facts in trained.items() if facts},
        }
        plain: Any = OmegaConf.to_container(config, resolve=True)
        card = model_card(metrics, plain)
        write_text(folder / MODEL / "README.md", card)
        # Last of all, since a folder with metrics.json counts as finished.
        write_json(folder / "metrics.json", metrics)
        path = write_report(folder)
        run.tracking.generations(answers.before, answers.after)
        run.tracking.report(path, metrics)
        settings = config.callbacks.checkpoint
        clean(folder / CHECKPOINTS, settings.finished if settings else "last")
    console.print(f"Model:  {folder / MODEL}\nReport: {path}", markup=False)
    return path


def _scores(run: RunContext, answers: Answers) -> dict[str, Any]:
    """Compares the models, and writes down what the prompt sets are."""
    models = {"original": answers.original, "before": answers.before, "after": answers.after}
    measured = metrics_by_set(run.config, run.sets)
    others = {} if answers.oracle is None else {"oracle": answers.oracle}
    compared = compare(
        {name: found for name, found in models.items() if found is not None},
        measured, comparison_settings(run.config), aggregates(run.config, run.sets, others),
    )  # fmt: skip
    return {**compared, "prompt_sets": described(run.sets, measured)}


def _facts(run: RunContext, judge: Judge, unlearned: Unlearned) -> dict[str, Any]:
    """Collects everything in metrics.json that is not a score of the answers."""
    config, scores, stages = run.config, judge.scores, run.stages
    return {
        "steps": unlearned.steps,
        "stop_reason": unlearned.stop_reason,
        "notes": unlearned.notes,
        "seconds": {name: round(stages.seconds[name], 2) for name in stages.done},
        "peak_memory_mb": peak_memory_mb(),
        "reference": unlearned.reference,
        **({} if config.finetune is None else {"reference_of": config.reference.of}),
        **({"classifier": {**scores, "threshold": config.classifier.threshold}} if scores else {}),
        **book_facts(run.data["forget"]),
        "fingerprints": fingerprints(run.data),
        "versions": package_versions(),
    }
