"""Generates the answers to prompt sets, with everything that the metrics need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from unlearning.classifier.scorer import HarmScorer
from unlearning.data.template import PromptTemplate
from unlearning.data.tokenize import tokenize_examples
from unlearning.generation.continuation import complete
from unlearning.generation.generate import answer_scores
from unlearning.metrics.memorisation import verbatim_tokens
from unlearning.models.decoder import CausalLM
from unlearning.types import Generation, PromptSet


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of generation for an evaluation.

    Args:
        max_new_tokens: an answer is cut there. A passage of running text is cut where its true
            continuation ends, if that is earlier.
        batch_size: prompts at once; None: as many as the free memory holds.
        max_length: tokens of a prompt with its target, when that is scored.
        cache_dir: of tokenised data.
    """

    max_new_tokens: int = 64
    batch_size: int | None = None
    max_length: int = 512
    cache_dir: str | Path | None = None


def evaluate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt_sets: Sequence[PromptSet],
    template: PromptTemplate,
    stage: str,
    scorer: HarmScorer | None = None,
    settings: EvaluationSettings | None = None,
    on_answered: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Returns one Generation for each prompt: the answer, its harm, and the likelihood of the
    target.

    Harm is judged on the completion only: judged with the prompt, as the authors' released code
    does, an innocent answer to a harmful question counts as harmful.

    Args:
        template: without an end token (`append_eos=False`) the examples are running text, and the
            target is what of the true continuation a completion can hold. NLL and memorisation
            are of the whole of it, up to `max_length`.
        stage: `original`, `before` or `after`.
        scorer: judges the completions; None leaves their harm unknown.
        on_answered: told now and then how many more prompts are answered.
    """
    settings = settings or EvaluationSettings()
    generations = [
        generation
        for prompt_set in prompt_sets
        for generation in _answer(
            model, tokenizer, prompt_set, template, stage, settings, on_answered
        )
    ]
    if scorer is None:
        return generations
    harm = scorer.harm_probability([generation.completion for generation in generations])
    return [replace(g, harm_probability=p) for g, p in zip(generations, harm, strict=True)]


def _answer(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt_set: PromptSet,
    template: PromptTemplate,
    stage: str,
    settings: EvaluationSettings,
    on_answered: Callable[[int], None] | None,
) -> list[Generation]:
    examples = prompt_set.examples
    tokenized = tokenize_examples(
        examples, tokenizer, template, settings.max_length, settings.cache_dir
    )
    answers = complete(
        model, tokenizer, examples, template, settings.max_new_tokens, settings.batch_size,
        on_answered,
    )  # fmt: skip
    pad = tokenizer.pad_token_id or 0
    scores = answer_scores(model, tokenized.sequences, pad, settings.batch_size)
    special = frozenset(tokenizer.all_special_ids)
    return [
        Generation(
            stage=stage,
            prompt_set=prompt_set.name,
            index=index,
            prompt=example.prompt,
            target=target.text,
            completion=completion.text,
            num_tokens=completion.num_tokens,
            finished=completion.finished,
            target_nll=score.nll,
            target_tokens=score.tokens,
            target_matches=score.matches,
            target_suffix=score.suffix,
            verbatim_tokens=verbatim_tokens(completion.ids, target.ids, special),
        )
        for index, (example, (completion, target), score) in enumerate(
            zip(examples, answers, scores, strict=True)
        )
    ]
