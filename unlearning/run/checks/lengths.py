"""Checks, before any work, that prompts leave room for an answer; counts answers that are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from unlearning.data.bookcorpus import BookCorpusDataModule
from unlearning.data.finetuning import has_windows, tokenize_source
from unlearning.data.template import template_of
from unlearning.data.tokenize import Tokenized, tokenize_examples
from unlearning.errors import ConfigError
from unlearning.methods.on_policy import MAX_NEW_TOKENS, check_room
from unlearning.metrics.prompt_sets import needs_of
from unlearning.models.load import load_tokenizer
from unlearning.run.checks.weights import is_here
from unlearning.run.config.answers import asks_model_alone, samples_on_policy
from unlearning.run.config.build import Data, build_template
from unlearning.run.config.evaluate import EVALUATE
from unlearning.run.stages.taught import finetuned_sets
from unlearning.run.stages.utility import KEY as UTILITY
from unlearning.run.stages.utility import utility_examples
from unlearning.types import Example, PromptSet


def check_lengths(
    config: DictConfig, data: Data, sets: list[PromptSet], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Tokenises what is trained on and what is scored, with the settings that the stages have.

    They find it kept, under `cache_dir`; `validate=true` keeps nothing. Streams and texts in
    windows are cut to fit anyway.

    Returns:
        A line for each data set with answers that are cut.

    Raises:
        ConfigError: prompts that leave no room for an answer: how many, and the longest.
    """
    cache_dir = None if config.validate else config.cache_dir
    template, length = build_template(config), config.data.max_length
    template.check(tokenizer)
    found: list[str] = []

    def look(key: str, limit: str, tokenize: Callable[[], Tokenized]) -> None:
        try:
            tokenized = tokenize()
        except ConfigError as error:
            raise ConfigError(f"{key} ({limit}): {error}") from error
        if tokenized.truncated:
            found.append(
                f"{key}: {tokenized.truncated} of {len(tokenized.sequences)} answers are cut "
                f"to {limit}"
            )

    if config.task != EVALUATE:
        for name in ("forget", "retain"):
            module = data[name]
            if module is None or (isinstance(module, BookCorpusDataModule) and module.streaming):
                continue
            examples, kept_in = module.examples("train"), cache_dir
            if name == "retain" and asks_model_alone(config):  # whose answers are to come
                examples, kept_in = _with_one_token(examples), None
            tokenize = partial(
                tokenize_examples, examples, tokenizer, template, length, kept_in
            )  # fmt: skip
            look(f"data.{name}", f"data.max_length={length}", tokenize)
            if name == "retain" and samples_on_policy(config):
                new = config.method.get("max_new_tokens", MAX_NEW_TOKENS)
                check_room(tokenize().sequences, new, length)
        _finetuned(config, data, tokenizer, look, cache_dir)
        if held_out := utility_examples(config, data):
            tokenize = partial(
                tokenize_examples, held_out, tokenizer, template, length, cache_dir
            )  # fmt: skip
            look(UTILITY, f"data.max_length={length}", tokenize)
    for each in sets:
        if needs_of(each) & {"target", "alternatives"}:
            key = f"evaluation.prompt_sets.{each.name}"
            own, room = template_of(each, template), each.max_length or length
            own.check(tokenizer)
            look(
                key, f"{'data' if each.max_length is None else key}.max_length={room}",
                partial(tokenize_examples, with_answers(each), tokenizer, own, room, cache_dir),
            )  # fmt: skip
    return found


def with_answers(prompt_set: PromptSet) -> list[Example]:
    """Returns the Examples that have an answer; prompts alone are only asked."""
    return [example for example in prompt_set.examples if example.response]


def _with_one_token(prompts: Iterable[Example]) -> list[Example]:
    """The prompts with an answer of one token, for which there has to be room."""
    return [replace(each, response="?", response_ids=(0,)) for each in prompts]


def tokenizer_named(config: DictConfig, name: str) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model, in the configured revision where it is from a hub."""
    on_hub = not is_here(name)
    options = {"revision": config.model.revision} if on_hub and config.model.revision else {}
    return load_tokenizer(name, **options)


def _finetuned(
    config: DictConfig,
    data: Data,
    tokenizer: PreTrainedTokenizerBase,
    look: Callable[[str, str, Callable[[], Tokenized]], None],
    cache_dir: str | None,
) -> None:
    if config.finetune is None or config.finetune.load is not None:
        return
    template, length = build_template(config), config.finetune.context_length
    for name, splits in finetuned_sets(config).items():
        module = data[name]
        if module is None or has_windows(module):
            continue
        for split in splits:
            look(
                f"finetune.sets.{name}", f"finetune.context_length={length}",
                partial(tokenize_source, module, tokenizer, length, template, split, cache_dir),
            )  # fmt: skip
