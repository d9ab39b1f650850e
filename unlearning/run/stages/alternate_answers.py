"""The stage in which the model before unlearning gives other answers to the forget prompts."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from unlearning.data.records.source import fingerprint
from unlearning.data.template import unescaped
from unlearning.errors import ConfigError
from unlearning.generation.alternate_answers import (
    NAME,
    AlternateAnswers,
    alternate_answers,
    lacking,
)
from unlearning.models.low_precision import computing_in
from unlearning.run.config.answers import asks_for_alternates, sampling_with
from unlearning.run.config.build import Data, build_template, stop_strings
from unlearning.run.config.precision import evaluation_dtype
from unlearning.run.output.store import Store
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.models import evaluation_device, load_base
from unlearning.run.stages.own_answers import answered_by, read_answers, write_answers
from unlearning.types import Example


def answer_forget_prompts(run: RunContext, start: str) -> AlternateAnswers | None:
    """Runs the stage `alternate answers`, where the configuration asks for them.

    Args:
        start: the model that unlearning starts from.
    """
    if not asks_for_alternates(run.config):
        return None
    with run.stage(NAME) as notes:
        found, kept = kept_alternate_answers(run.config, run.store, start, run.data)
        notes += [KEPT] * kept + [f"{len(found.examples)} of {found.asked}"]
    return found


def kept_alternate_answers(
    config: DictConfig, store: Store, model: str, data: Data
) -> tuple[AlternateAnswers, bool]:
    """Returns a model's other answers to the forget set's training prompts, made once for all runs.

    Returns:
        The answers, and whether they were kept from an earlier run.

    Raises:
        ConfigError: a prompt has fewer than `data.alternates_per_prompt` that can be trained on.
    """
    settings, per_prompt = config.data.alternate, config.data.alternates_per_prompt
    forget = _forget(data)
    inputs = {
        **answered_by(config, model),
        "forget": fingerprint(forget),
        "instruction": unescaped(settings.instruction),
        "settings": [settings.max_new_tokens, settings.keep_broken, stop_strings(config)],
        "sampling": [settings.samples, per_prompt, repr(sampling_with(settings))],
    }

    def make(folder: Path) -> None:
        folder.mkdir()
        write_answers(folder, _answered(config, model, forget))

    folder, kept = store.get("alternate_answers", inputs, make)
    found = read_answers(folder, AlternateAnswers)
    if short := lacking(found.examples, forget, per_prompt):
        raise _too_few(config, model, short)
    return found, kept


def _forget(data: Data) -> list[Example]:
    forget = data["forget"]
    assert forget is not None  # check_data() saw to it
    return list(forget.examples("train"))


def _answered(config: DictConfig, name: str, forget: list[Example]) -> AlternateAnswers:
    settings = config.data.alternate
    model, tokenizer = load_base(config, name)
    model.to(evaluation_device(config))  # type: ignore[arg-type]
    try:
        with computing_in(model, evaluation_dtype(config)):
            return alternate_answers(
                model, tokenizer, forget, build_template(config), unescaped(settings.instruction),
                settings.samples, sampling_with(settings), config.data.alternates_per_prompt,
                settings.max_new_tokens, config.evaluation.batch_size, stop_strings(config),
                settings.keep_broken,
            )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"data.alternate: {error}") from error


def _too_few(config: DictConfig, model: str, short: list[Example]) -> ConfigError:
    settings = config.data.alternate
    return ConfigError(
        f"{model} was asked twice for data.alternate.samples={settings.samples} other answers to "
        f"the forget prompt {short[0].prompt[:60]!r}, and gave fewer than "
        f"data.alternates_per_prompt={config.data.alternates_per_prompt} that are neither empty, "
        "broken, repeated nor the answer to forget"
        + (f"; so it is with {len(short) - 1} more prompts" if len(short) > 1 else "")
        + ". Raise data.alternate.samples or data.alternate.temperature, word "
        "data.alternate.instruction otherwise, or set data.alternate.keep_broken=true."
    )
