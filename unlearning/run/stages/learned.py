"""Whether the fine-tuning taught anything, measured before hours go into forgetting it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from unlearning.data.token_store import token_counts
from unlearning.errors import RequirementError
from unlearning.files.atomic import write_json
from unlearning.files.parsing import read_json
from unlearning.generation.generate import padding_token
from unlearning.generation.likelihood import answer_scores
from unlearning.metrics.likeness import bleu_to_target
from unlearning.progress import counting
from unlearning.run.config.build import build_template, numerics
from unlearning.run.output.store import model_identity
from unlearning.run.stages.answers import kept_answers
from unlearning.run.stages.context import RunContext
from unlearning.run.stages.models import evaluation_device, load_base
from unlearning.run.stages.taught import existing, finetuned_sets, tokenized_sets
from unlearning.types import PromptSet, TokenizedExample

SAMPLE = 32
"""Answers of each data set, and passages of a book."""
FEWEST, TOKENS = 4, 16_384
"""Of long answers (windows of a book) fewer are taken: so many, or so many tokens."""
LEARNED = "learned.json"


def learned(run: RunContext, base: str, model: str) -> dict[str, Any]:
    """Measures what `finetune.require` is about, once for all runs; nothing where it is null.

    Args:
        base: name or folder of the model before fine-tuning.
        model: folder of the one after.

    Returns:
        By data set `answers`, `nll_before`, `nll_after` (nats a token) and `nll_ratio`, None where
        they are not finite; `bleu` and `passages` where a book was taught.
    """
    config, store = run.config, run.store
    if config.finetune.get("require") is None:
        return {}
    sets = finetuned_sets(config)
    inputs = {
        "models": [model_identity(base, config.model.revision), model_identity(model)],
        "tokenizer": model_identity(config.model.tokenizer or base, config.model.revision),
        "data": {name: [existing(run.data, name).fingerprint(), sets[name]] for name in sets},
        "template": repr(build_template(config)),
        "context_length": config.finetune.context_length,
        "numerics": [numerics(config), evaluation_device(config).type],
    }

    def make(folder: Path) -> None:
        folder.mkdir()
        write_json(folder / LEARNED, _nlls(run, base, model))

    folder, _ = store.get("learned", inputs, make)
    found: dict[str, Any] = read_json(folder / LEARNED)
    passages = _passages(run.sets) if "forget" in sets else None
    if passages is None or config.finetune.require.get("bleu") is None:
        return found
    answers, _ = kept_answers(config, store, model, [passages], "before", None, {})
    score = bleu_to_target.statistic(answers)
    return found if score is None else {**found, "bleu": score.value, "passages": len(answers)}


def learned_notes(measured: Mapping[str, Any]) -> list[str]:
    """Writes what was learned for the stage's line: `forget NLL 3.41 to 0.12`, `BLEU 71.0`."""
    found = [
        f"{name} NLL {_shown(each['nll_before'], '.2f')} to {_shown(each['nll_after'], '.2f')}"
        for name, each in measured.items()
        if isinstance(each, Mapping)
    ]
    return found + ([f"BLEU {measured['bleu']:.1f}"] if "bleu" in measured else [])


def check_learned(config: DictConfig, measured: Mapping[str, Any]) -> None:
    """Checks that the fine-tuning taught what `finetune.require` asks for.

    Args:
        measured: by `learned`.

    Raises:
        RequirementError: it did not, or a figure is not finite.
    """
    if not measured:
        return
    required, short = config.finetune.require, list[str]()
    for name, each in measured.items():
        if isinstance(each, Mapping):
            short += _falls_short(name, each, required.get("nll_ratio"))
    if "bleu" in measured and not measured["bleu"] >= required.bleu:
        short.append(
            f"Of {measured['passages']} taught passages the BLEU to their true text is "
            f"{measured['bleu']:.1f}; finetune.require.bleu={required.bleu:g} asks for that much."
        )
    if short:
        raise RequirementError(
            f"The fine-tuning taught too little for anything to be unlearned. {' '.join(short)} "
            f"{_remedy(config.finetune)} The fine-tuned model is kept: to go on with it as it is, "
            "give the same command with finetune.require=null."
        )


def _falls_short(name: str, each: Mapping[str, Any], limit: float | None) -> list[str]:
    """Says what an NLL lacks: a value, or that it went down far enough."""
    before, after, ratio = each["nll_before"], each["nll_after"], each["nll_ratio"]
    if ratio is not None and (limit is None or ratio <= limit):
        return []
    way = "rose" if ratio is not None and ratio > 1 else "went"
    said = (
        f"The NLL of {each['answers']} taught {name} answers {way} from {_shown(before, '.3g')} to "
        f"{_shown(after, '.3g')} nats a token"
    )
    if ratio is None:
        return [f"{said}."]
    return [
        f"{said}, to {ratio:.2f} of what it was; finetune.require.nll_ratio={limit:g} asks for "
        "that much or less."
    ]


def _shown(value: float | None, how: str) -> str:
    return "a value that is not finite" if value is None else format(value, how)


def _remedy(settings: DictConfig) -> str:
    if settings.load is not None:
        return f"Load another adapter than finetune.load={settings.load}."
    more = [f"epochs={settings.epochs}", f"learning_rate={settings.learning_rate:g}"]
    if settings.max_steps != -1:
        more[0] = f"max_steps={settings.max_steps}"
    if settings.adapter is not None:
        more.append(f"adapter.r={settings.adapter.get('r', 16)}")
    named = ", ".join(f"finetune.{each}" for each in more)
    layers = ", or set finetune.adapter.target_modules=all-linear" * (settings.adapter is not None)
    return f"Raise {named}{layers}; lower the rate if its loss went up."


def _nlls(run: RunContext, base: str, model: str) -> dict[str, Any]:
    """Scores a sample of each data set's answers by the model before fine-tuning and after."""
    config, found = run.config, dict[str, dict[str, Any]]()
    for when, name in (("nll_before", base), ("nll_after", model)):
        policy, tokenizer = load_base(config, name)
        policy.to(evaluation_device(config))  # type: ignore[arg-type]
        parts = tokenized_sets(config, run.data, finetuned_sets(config), tokenizer)
        for of, tokenized in parts.items():
            sample = [each for part in tokenized for each in spread(part.sequences, len(tokenized))]
            with counting(f"{of}, taught answers", len(sample), "answer") as scored:
                scores = answer_scores(
                    policy, sample, padding_token(tokenizer), config.finetune.batch_size,
                    on_scored=scored,
                )  # fmt: skip
            nll = sum(score.nll for score in scores) / sum(score.tokens for score in scores)
            found.setdefault(of, {"answers": len(sample)})[when] = nll
    return {name: _compared(**each) for name, each in found.items()}


def _compared(answers: int, nll_before: float, nll_after: float) -> dict[str, Any]:
    """Adds the ratio; what is not finite is None, since JSON has no word for it."""
    ratio = nll_after / nll_before if nll_before > 0 else math.nan
    figures = {"nll_before": nll_before, "nll_after": nll_after, "nll_ratio": ratio}
    finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return {"answers": answers, **finite}


def spread(sequences: Sequence[TokenizedExample], parts: int = 1) -> list[TokenizedExample]:
    """Returns a sample of answers, spread evenly over all of them.

    Args:
        parts: how many such samples there are, which share the numbers.
    """
    prompts, answers = token_counts(sequences)
    longest = int(np.max(prompts + answers, initial=1))
    number = min(len(sequences), max(FEWEST, min(SAMPLE, TOKENS // longest) // parts))
    return [sequences[place * len(sequences) // number] for place in range(number)]


def _passages(sets: Sequence[PromptSet]) -> PromptSet | None:
    """Returns some of the passages that were taught; None where no prompt set asks any."""
    taught = (each for each in sets if each.kind == "copyright" and each.split == "train")
    of = next(taught, None)
    if of is None:
        return None
    number = min(SAMPLE, len(of.examples))
    examples = [of.examples[place * len(of.examples) // number] for place in range(number)]
    name, metrics = f"taught/{of.name}", (bleu_to_target,)
    return replace(of, name=name, kind="", examples=examples, metrics=metrics)
