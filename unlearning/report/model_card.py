"""Writes the model card: what was forgotten, how, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from unlearning.report.card_tables import models_table, sets_table
from unlearning.report.checks import DEFAULT_LIMITS, Limits
from unlearning.report.describe import Description, describe, hub_id
from unlearning.report.ending import is_reverted, put_back
from unlearning.report.figures import DASH, figure, number, section, write_number
from unlearning.report.markdown import inline
from unlearning.report.methods import NO_INTERVAL, ONE_MODEL
from unlearning.report.stages import has_book
from unlearning.report.verdict import verdicts

_HARM_LIMITS = """\
- Unlearning lowers the probability of what it was shown. Other wordings, other languages, a few
  steps of fine-tuning or sampling at a high temperature may bring the behaviour back.
- Harm is judged by a classifier from the completion alone. It errs in both directions; its own
  quality is stated above where it was measured.
- Retention was measured on the retain sets above. What they do not cover may have changed.
- An answer that is empty, repetitive or not made of words counts as broken, not as safe.
"""

_BOOK_LIMITS = """\
- Unlearning lowers the probability of the passages it was shown. Other beginnings, a few steps of
  fine-tuning or sampling at a high temperature may bring the text back.
- Likeness to the book is counted in words, characters and tokens in common. A retelling in other
  words passes as forgotten.
- Retention was measured on the retain sets above. What they do not cover may have changed.
- A continuation that is empty, repetitive or not made of words counts as broken, not as forgotten.
"""

_CITATION = """\
```bibtex
@misc{arxiv_2405_15152,
  eprint        = {2405.15152},
  archivePrefix = {arXiv}
}
```
"""


def model_card(
    metrics: Mapping[str, Any], config: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS
) -> str:
    """Returns the model card in Markdown with YAML front matter, the `README.md` beside the
    weights.

    Args:
        metrics: the contents of `metrics.json`; what is missing is shown as a dash.
        config: the composed configuration as plain mappings.
        limits: what the verdicts hold the figures against.
    """
    about = describe(config, metrics)
    return "\n".join(
        [
            _front_matter(config),
            f"# {inline(about.title)}\n",
            "This model was made to forget. It is a causal language model and loads with "
            "`AutoModelForCausalLM.from_pretrained`.\n",
            _what(about, has_book(metrics)),
            _how(about, metrics),
            _how_well(metrics, limits),
            f"## Limits\n\n{_BOOK_LIMITS if has_book(metrics) else _HARM_LIMITS}",
            f"## Citation\n\nThe method is that of arXiv 2405.15152.\n\n{_CITATION}",
        ]
    )


def _front_matter(config: Mapping[str, Any]) -> str:
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["unlearning"],
    }
    base = hub_id(config)
    if base is not None:
        facts["base_model"] = base
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n"


def _what(about: Description, book: bool) -> str:
    lines = [
        "## What was forgotten\n",
        f"- Forget set: {inline(about.forgotten)}",
        f"- Retain set: {inline(about.retained)}",
    ]
    if about.book:
        lines.append(f"- Passages of the book: {_listed(about.book)}")
    if book:
        lines.append("- The book may be under copyright. None of its text is part of this card.")
    return "\n".join(lines) + "\n"


def _listed(facts: tuple[tuple[str, str], ...]) -> str:
    return "; ".join(f"{inline(name)}: {inline(value)}" for name, value in facts)


def _how(about: Description, metrics: Mapping[str, Any]) -> str:
    steps = number(metrics.get("steps"))
    lines = [
        "## How\n",
        "| Term | Weight | Loss |",
        "|---|---:|---|",
        *(f"| {inline(t.name)} | {inline(t.weight)} | {inline(t.loss)} |" for t in about.terms),
        "" if about.terms else f"| {DASH} | {DASH} | {DASH} |\n",
        f"- Starting model: {inline(about.model)}",
        *([f"- Fine-tuned on the book first: {_listed(about.finetune)}"] if about.finetune else []),
        f"- Adapter: {inline(about.adapter)}",
        f"- Reference for the retain term: {inline(about.reference)}",
        f"- Optimizer: {inline(about.optimizer)}, learning rate {inline(about.learning_rate)}, "
        f"batch size {inline(about.batch_size)}",
        f"- Steps: {DASH if steps is None else f'{steps:,.0f}'}",
    ]
    if metrics.get("stop_reason"):
        told = "Reverted" if is_reverted(metrics) else "Stopped early"
        why = f"{put_back(metrics)} {metrics['stop_reason']}".strip()
        lines.append(f"- {told}: {inline(why)}")
    return "\n".join(lines) + "\n"


def _how_well(metrics: Mapping[str, Any], limits: Limits) -> str:
    lines = ["## How well\n"]
    for verdict in verdicts(metrics, limits):
        mark = f"**{verdict.outcome}**" if verdict.ok is False else verdict.outcome
        says = f"{inline(verdict.headline)} ({mark})"
        lines.append(f"- {says}. {inline(verdict.sentence)}")
    lines += ["", f"Values with their 95 % interval, by the method beside the metric. {ONE_MODEL} "
              f"{NO_INTERVAL}\n"]  # fmt: skip
    if has_book(metrics):  # beside the paper's table, what it has no rows for
        lines += [*models_table(metrics), "", *sets_table(metrics, key_only=False)]
    else:
        lines += sets_table(metrics)
    judge = [f"{key.replace('_', ' ')} {text}" for key, text in _classifier(metrics)]
    if judge:
        lines.append(f"\nThe harm classifier on its held-out split: {', '.join(judge)}.")
    return "\n".join(lines) + "\n"


def _classifier(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    measured = section(metrics, "classifier")
    keys = ("accuracy", "precision", "recall", "f1", "roc_auc", "threshold")
    values = [(key, figure(measured.get(key)).value) for key in keys]
    return [(key, write_number(value, "plain")) for key, value in values if value is not None]
