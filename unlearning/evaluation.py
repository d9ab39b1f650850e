"""Generates the answers to prompt sets, with everything that the metrics need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from unlearning.classifier.scorer import HarmScorer
from unlearning.data.template import Template, template_of
from unlearning.data.tokenize import tokenize_examples
from unlearning.generation.continuation import complete, targets
from unlearning.generation.generate import Completion, padding_token
from unlearning.generation.likelihood import AnswerScore, answer_scores
from unlearning.generation.stopping import stop_tokens
from unlearning.metrics.memorisation import verbatim_tokens
from unlearning.metrics.prompt_sets import needs_of
from unlearning.models.decoder import CausalLM
from unlearning.progress import counting
from unlearning.types import AlternativeScore, Example, Generation, PromptSet


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of generation for an evaluation.

    Args:
        max_new_tokens: an answer is cut there. A passage of running text is cut where its true
            continuation ends, if that is earlier.
        batch_size: prompts at once; None: as many as the free memory holds.
        max_length: tokens of a prompt with its target, when that is scored.
        cache_dir: of tokenised data.
        stop: texts before which an answer ends, for models that go on with the next question.
    """

    max_new_tokens: int = 64
    batch_size: int | None = None
    max_length: int = 512
    cache_dir: str | Path | None = None
    stop: tuple[str, ...] = ()


def evaluate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt_sets: Sequence[PromptSet],
    template: Template,
    stage: str,
    scorer: HarmScorer | None = None,
    settings: EvaluationSettings | None = None,
    on_answered: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Returns one Generation for each prompt, with what the metrics of its set need.

    That is the answer and its harm, the likelihood of the target, or that of the alternatives.

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
    asked = Asked(model, tokenizer, template, settings, on_answered)
    found = [asked.answer(prompt_set, stage) for prompt_set in prompt_sets]
    if scorer is None:
        return [generation for answers in found for generation in answers]
    judged = [
        generation
        for prompt_set, answers in zip(prompt_sets, found, strict=True)
        for generation in answers
        if "harm" in needs_of(prompt_set)
    ]
    harm = iter(scorer.harm_probability([generation.completion for generation in judged]))
    return [
        replace(generation, harm_probability=next(harm))
        if "harm" in needs_of(prompt_set)
        else generation
        for prompt_set, answers in zip(prompt_sets, found, strict=True)
        for generation in answers
    ]


@dataclass(frozen=True)
class Asked:
    """A model with what the evaluation of all prompt sets shares; see `evaluate`."""

    model: CausalLM
    tokenizer: PreTrainedTokenizerBase
    template: Template
    settings: EvaluationSettings
    on_answered: Callable[[int], None] | None = None

    def answer(self, prompt_set: PromptSet, stage: str) -> list[Generation]:
        """Makes a Generation for each Example, with what the set's metrics need and no more."""
        examples, needs = prompt_set.examples, needs_of(prompt_set)
        template = template_of(prompt_set, self.template)
        max_length = prompt_set.max_length or self.settings.max_length
        completions: list[Completion] = [Completion("", (), True)] * len(examples)
        true = targets(examples, self.tokenizer, template, self.settings.max_new_tokens)
        if needs & {"completion", "harm"}:
            with counting(prompt_set.name, len(examples), "answer") as answered:

                def tell(more: int) -> None:
                    answered(more)
                    if self.on_answered is not None:
                        self.on_answered(more)

                pairs = complete(
                    self.model, self.tokenizer, examples, template, self.settings.max_new_tokens,
                    self.settings.batch_size, tell, self.settings.stop,
                )  # fmt: skip
            completions = [completion for completion, _ in pairs]
        elif self.on_answered is not None:
            self.on_answered(len(examples))
        scored: list[dict[str, Any]] = [{} for _ in examples]
        if "target" in needs:
            ends = stop_tokens(self.model, self.tokenizer, template.end_tokens(self.tokenizer))
            special = frozenset(self.tokenizer.all_special_ids) | frozenset(ends)
            asked = [n for n, example in enumerate(examples) if example.response]
            likely = self.scores(
                [examples[n] for n in asked], template, max_length,
                f"{prompt_set.name}, likelihood",
            )  # fmt: skip
            for number, score in zip(asked, likely, strict=True):
                run = verbatim_tokens(completions[number].ids, true[number].ids, special)
                scored[number] = {
                    "target_nll": score.nll, "target_tokens": score.tokens,
                    "target_matches": score.matches, "target_suffix": score.suffix,
                    **({"verbatim_tokens": run} if needs & {"completion", "harm"} else {}),
                }  # fmt: skip
        if "alternatives" in needs:
            each = self.alternatives(examples, template, max_length, prompt_set.name)
            for number, alternatives in enumerate(each):
                scored[number]["alternatives"] = alternatives
        return [
            Generation(
                stage, prompt_set.name, index, example.conversation, target.text, completion.text,
                completion.num_tokens, completion.finished, split=prompt_set.split,
                label=example.label, **found,
            )
            for index, (example, completion, target, found) in enumerate(
                zip(examples, completions, true, scored, strict=True)
            )
        ]  # fmt: skip

    def scores(
        self, examples: Sequence[Example], template: Template, max_length: int, name: str
    ) -> list[AnswerScore]:
        """Scores each Example's response by its likelihood.

        Args:
            name: of what is scored, where progress is shown.
        """
        tokenized = tokenize_examples(
            examples, self.tokenizer, template, max_length, self.settings.cache_dir
        )
        pad = padding_token(self.tokenizer)
        end = next(iter(template.end_tokens(self.tokenizer)), None)
        with counting(name, len(examples), "text") as scored:
            return answer_scores(
                self.model, tokenized.sequences, pad, self.settings.batch_size, end, scored
            )

    def alternatives(
        self, examples: Sequence[Example], template: Template, max_length: int, name: str
    ) -> list[dict[str, tuple[AlternativeScore, ...]]]:
        """Scores each Example's alternatives by their likelihood.

        Args:
            name: of the prompt set, where progress is shown.
        """
        places = [
            (number, name, text)
            for number, example in enumerate(examples)
            for name, texts in example.named_alternatives()
            for text in texts
        ]
        asked = [replace(examples[n], response=text, alternatives=()) for n, _, text in places]
        scores = self.scores(asked, template, max_length, f"{name}, alternatives")
        found: list[dict[str, list[AlternativeScore]]] = [{} for _ in examples]
        for (number, name, text), score in zip(places, scores, strict=True):
            one = AlternativeScore(text, score.nll, score.tokens, score.end_nll)
            found[number].setdefault(name, []).append(one)
        return [{name: tuple(each) for name, each in one.items()} for one in found]
