"""Writes `report.html`: one self-contained file.

Whatever a model, a data set or a configuration says is untrusted text. It reaches the page only
through the template engine's escaping, and the page's content policy forbids scripts and loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearning.files.made import Made
from unlearning.report.checks import DEFAULT_LIMITS, MIN_PROMPTS, Limits
from unlearning.report.describe import describe
from unlearning.report.ending import is_reverted, put_back
from unlearning.report.examples import EXCERPT, example_sets
from unlearning.report.figures import number, prompt_sets, section
from unlearning.report.methods import NO_INTERVAL, ONE_MODEL
from unlearning.report.own import is_page
from unlearning.report.panels import interval_panels, loss_panels, reliability_panel, weighted_panel
from unlearning.report.run_folder import RunFolder, read_run_folder
from unlearning.report.stages import has_book, has_original, stages
from unlearning.report.stages_table import PAPER, stage_groups
from unlearning.report.tables import (
    classifier_rows,
    flat_rows,
    metric_tables,
    write_bytes,
    write_seconds,
)
from unlearning.report.verdict import Verdict, verdicts

PAGE = "report.html"


def write_report(run_folder: Path, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Reads a run folder and writes its `report.html` atomically.

    Args:
        run_folder: holds `metrics.json` and, where the run made them, `config.yaml`,
            `generations.jsonl` and `losses.csv`.
        limits: what the verdicts hold the figures against.

    Returns:
        The path of the report.

    Raises:
        ConfigError: `metrics.json` is missing, one of the files cannot be parsed, or there is a
            `report.html` that was not written here or was changed since.
    """
    page = render(read_run_folder(Path(run_folder)), limits)
    # A lone surrogate in a model's output cannot be encoded; it becomes a question mark.
    content = page.encode("utf-8", errors="replace")
    Made(run_folder).write({PAGE: content}, recognised=is_page)
    return Path(run_folder) / PAGE


def render(run: RunFolder, limits: Limits = DEFAULT_LIMITS) -> str:
    """Renders the page as text."""
    return environment().get_template("page.html.j2").render(_context(run, limits)).lstrip()


def environment() -> Environment:
    """Returns what fills the report's templates: it escapes, and knows no undefined name."""
    return Environment(
        loader=PackageLoader("unlearning.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(run: RunFolder, limits: Limits) -> dict[str, Any]:
    metrics = run.metrics
    judged = verdicts(metrics, limits)
    peak = number(metrics.get("peak_memory_mb"))
    seconds = {stage: number(raw) for stage, raw in section(metrics, "seconds").items()}
    known_seconds = [value for value in seconds.values() if value is not None]
    steps = number(metrics.get("steps"))
    return {
        "about": describe(run.config, metrics),
        "date": run.finished,
        "verdicts": judged,
        "summary": _summary(judged),
        "stop_reason": metrics.get("stop_reason"),
        "reverted": is_reverted(metrics),
        "put_back": put_back(metrics),
        "notes": _notes(metrics),
        "steps": None if steps is None else f"{steps:,.0f}",
        "total_time": write_seconds(sum(known_seconds)) if known_seconds else None,
        "stage_times": [(stage, write_seconds(value)) for stage, value in seconds.items()],
        "peak_memory": write_bytes(peak),
        **_kind_of_run(metrics),
        "stage_groups": stage_groups(metrics),
        "paper": PAPER,
        "tables": metric_tables(metrics),
        "interval_panels": interval_panels(metrics),
        "loss_panels": loss_panels(run.losses),
        "weighted_panel": weighted_panel(run.losses),
        "example_sets": example_sets(run.generations, metrics),
        "classifier": classifier_rows(metrics),
        "reliability_panel": reliability_panel(metrics),
        "config_text": run.config_text,
        "fingerprints": flat_rows(section(metrics, "fingerprints")),
        "metric_settings": [
            *flat_rows(section(metrics, "settings")),
            *((f"signature of {n}", v) for n, v in flat_rows(section(metrics, "signatures"))),
        ],
        "versions": flat_rows(section(metrics, "versions")),
        "limits": limits,
        "min_prompts": MIN_PROMPTS,
        "one_model": ONE_MODEL,
        "no_interval": NO_INTERVAL,
    }


def _kind_of_run(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the wording of the page for runs about a book, or about harm."""
    book = has_book(metrics)
    harm = "harmful" in prompt_sets(metrics).values() or bool(section(metrics, "classifier"))
    return {
        "book": book,
        "judged_for_harm": harm or not book,
        "stages": stages(metrics),
        "change": "Change from fine-tuned" if has_original(metrics) else "Change",
        "excerpt": EXCERPT,
    }


def _summary(judged: list[Verdict]) -> str:
    """Returns the line above the verdicts."""
    if not judged:
        return "The figures below are of models that were asked, not changed; nothing is judged."
    failed = [verdict.headline.lower() for verdict in judged if verdict.ok is False]
    unknown = [verdict for verdict in judged if verdict.ok is None]
    if failed:
        return f"{len(failed)} of {len(judged)} checks failed: {', '.join(failed)}."
    if unknown:
        passed = len(judged) - len(unknown)
        few = all(verdict.too_few for verdict in unknown)
        why = "are on too few prompts to say" if few else "were not fully measured"
        return f"{passed} of {len(judged)} checks passed; the others {why}."
    return f"All {len(judged)} checks passed."


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    notes = metrics.get("notes")
    if isinstance(notes, str):
        return [notes]
    return [str(note) for note in notes] if isinstance(notes, list) else []
