"""The stage in which the model before unlearning answers the retain prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from unlearning.data.examples import ExampleDataModule
from unlearning.data.records.source import fingerprint
from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.files.parsing import read_json
from unlearning.generation.own_answers import OwnAnswers, distinct_prompts, own_answers
from unlearning.models.low_precision import computing_in
from unlearning.progress import counting
from unlearning.run.config.answers import (
    OF_DATA,
    OF_MODEL,
    answers_of,
    asks_model,
    sampling_of,
)
from unlearning.run.config.build import Data, build_template, stop_strings
from unlearning.run.config.precision import evaluation_dtype
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.models import evaluation_device, load_base
from unlearning.types import Example

STAGE = "own answers"
ANSWERS, FACTS = "answers.jsonl", "facts.json"
Kind = TypeVar("Kind", bound=OwnAnswers)


def answer_retain_prompts(run: RunContext, start: str, base: str) -> OwnAnswers | None:
    """Runs the stage `own answers`, where the configuration asks for them.

    Args:
        start: the model that unlearning starts from.
        base: the one before any fine-tuning, which answers where it is the reference.
    """
    config = run.config
    if not asks_model(config):
        return None
    model = base if config.reference.of == "base" else start
    with run.stage(STAGE) as notes:
        found, kept = kept_own_answers(config, run.store, model, run.data)
        notes += [KEPT] * kept + [f"{len(found.examples)} of {found.asked}"]
    return found


def kept_own_answers(
    config: DictConfig, store: Store, model: str, data: Data
) -> tuple[OwnAnswers, bool]:
    """Returns a model's answers to the retain set's training prompts, made once for all runs.

    Returns:
        The answers, and whether they were kept from an earlier run.

    Raises:
        ConfigError: none of them can be trained on.
    """
    settings = config.data.answers
    prompts = list(islice(distinct_prompts(_retain(data).examples("train")), settings.limit))
    asked = [Example(each.prompt, "", turns=each.turns) for each in prompts]
    inputs = {
        **answered_by(config, model),
        "prompts": fingerprint(asked),
        "settings": [settings.max_new_tokens, settings.keep_broken, stop_strings(config)],
        "sampling": [settings.samples, repr(sampling_of(config))],
    }

    def make(folder: Path) -> None:
        folder.mkdir()
        write_answers(folder, _answered(config, model, asked))

    folder, kept = store.get("own_answers", inputs, make)
    found = read_answers(folder, OwnAnswers)
    if not found.examples:
        raise ConfigError(
            f"All {found.asked} own answers of {model} to the retain prompts are empty or broken, "
            "and nothing is left to train on. Set data.answers.retain=data and "
            "data.answers.mismatch=data, or look at data.template."
        )
    return found, kept


def retain_and_mismatch(
    config: DictConfig, data: Data, own: OwnAnswers | None
) -> tuple[ExampleDataModule | Sequence[Example], Sequence[Example] | None]:
    """Returns the retain examples, and those that mismatch answers are drawn from; None: the
    same."""
    retain = _retain(data)
    if own is None:
        return retain, None

    def chosen(of: str) -> list[Example]:
        gold = list(retain.examples("train")) if of in OF_DATA else []
        return gold + (own.examples if of in OF_MODEL else [])

    of, mismatch_of = (answers_of(config, term) for term in ("retain", "mismatch"))
    listed = retain if of == "data" else chosen(of)
    return listed, None if mismatch_of == of else chosen(mismatch_of)


def answered_by(config: DictConfig, model: str) -> dict[str, Any]:
    """Returns what any answers of a model depend on, for the key under which they are kept."""
    revision = config.model.revision
    return {
        "model": model_identity(model, revision),
        "tokenizer": model_identity(config.model.tokenizer or model, revision),
        "template": repr(build_template(config)),
        "computed": [evaluation_device(config).type, str(evaluation_dtype(config))],
    }


def _retain(data: Data) -> ExampleDataModule:
    retain = data["retain"]
    assert retain is not None  # check_data() saw to it
    return retain


def _answered(config: DictConfig, name: str, asked: Sequence[Example]) -> OwnAnswers:
    settings = config.data.answers
    model, tokenizer = load_base(config, name)
    model.to(evaluation_device(config))  # type: ignore[arg-type]
    with (
        computing_in(model, evaluation_dtype(config)),
        counting(STAGE, len(asked) * settings.samples, "answer") as done,
    ):
        return own_answers(
            model, tokenizer, asked, build_template(config), settings.max_new_tokens,
            config.evaluation.batch_size, done, stop_strings(config), settings.keep_broken,
            settings.samples, sampling_of(config),
        )  # fmt: skip


def write_answers(folder: Path, answers: OwnAnswers) -> None:
    """Writes answers with their tokens, and their counts, into a folder."""
    lines = (
        json.dumps([each.prompt, each.response, each.turns, each.response_ids])
        for each in answers.examples
    )
    (folder / ANSWERS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    counts = {each.name: getattr(answers, each.name) for each in fields(answers)}
    del counts["examples"]
    write_json(folder / FACTS, counts)


def read_answers(folder: Path, kind: type[Kind]) -> Kind:
    """Reads what `write_answers` has written."""
    examples = []
    with (folder / ANSWERS).open(encoding="utf-8") as lines:
        for prompt, response, turns, ids in map(json.loads, lines):
            examples.append(Example(prompt, response, turns=turns, response_ids=tuple(ids)))
    return kind(examples, **read_json(folder / FACTS))
