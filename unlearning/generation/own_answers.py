"""A model's own answers to prompts, as Examples that keep the tokens it generated.

What keeps a model as it is are texts that it would say itself: the gold answers of a data set are
another author's, and a KL on them guards text of low probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompts
from unlearning.data.template import Template
from unlearning.errors import ConfigError
from unlearning.generation.generate import Completion, generate
from unlearning.generation.sampling import Sampling
from unlearning.metrics.degeneracy import is_broken, is_empty
from unlearning.models.decoder import CausalLM
from unlearning.types import Example


@dataclass(frozen=True)
class OwnAnswers:
    """Answers that a model gave, and how many were left out or cut.

    Args:
        examples: prompts with answers, which carry their tokens (`Example.response_ids`).
        asked: how many answers were generated.
        cut: how many of `examples` reached the token limit; they have no end token.
        empty: answers without a word, left out.
        broken: repetitive answers and those not made of words, left out.
    """

    examples: list[Example]
    asked: int
    cut: int = 0
    empty: int = 0
    broken: int = 0

    def facts(self) -> dict[str, int]:
        """Returns the counts, as `metrics.json` has them."""
        counts = {"asked": self.asked, "kept": len(self.examples)}
        return {**counts, "cut": self.cut, "empty": self.empty, "broken": self.broken}

    def notes(self) -> list[str]:
        """Returns sentences for the report: answers that were left out, and cut ones."""
        found = []
        if self.empty or self.broken:
            found.append(
                f"Of {self.asked} own answers of the model {self.empty} empty and {self.broken} "
                "broken ones were left out."
            )
        if self.cut:
            found.append(f"{self.cut} own answers of the model were cut at their token limit.")
        return found


def own_answers(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Example],
    template: Template,
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    on_answered: Callable[[int], None] | None = None,
    stop_strings: Sequence[str] = (),
    keep_broken: bool = False,
    samples: int = 1,
    sampling: Sampling | None = None,
) -> OwnAnswers:
    """Generates the model's own answers to each distinct prompt of the Examples.

    The answers carry the tokens that were generated: with the end token where the model ended
    there, without one where it was cut at the limit or before a stop string.

    Args:
        examples: their responses are not read.
        batch_size: see `generate`; so are `on_answered` and `stop_strings`.
        keep_broken: keep repetitive answers and those not made of words; empty ones never are.
        samples: answers to each prompt; those that are drawn alike are all kept.
        sampling: how they are drawn; None is greedy.

    Raises:
        ConfigError: several greedy answers are asked for, which would be one; or a prompt with its
            answer would not fit the model's context.
    """
    if samples != 1 and sampling is None:
        raise ConfigError(
            f"samples={samples} greedy answers to a prompt would be the same one. Give sampling a "
            "temperature, or set samples=1."
        )
    asked = distinct_prompts(examples) * samples
    said = generate(
        model, tokenizer, encode_prompts(asked, tokenizer, template), max_new_tokens, batch_size,
        on_answered, stop_strings, template.end_tokens(tokenizer), sampling,
    )  # fmt: skip
    return _sorted_out(asked, said, keep_broken)


def distinct_prompts(examples: Iterable[Example]) -> list[Example]:
    """Returns the first Example of each prompt (with the turns before it), in their order."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.conversation, example)
    return list(first.values())


def fault_of(
    completion: Completion, keep_broken: bool = False
) -> Literal["empty", "broken"] | None:
    """Returns why an answer cannot be trained on; None where it can."""
    # A stop string can begin within the first token: there is text then, and no token.
    if not completion.ids or is_empty(completion.text):
        return "empty"
    return "broken" if is_broken(completion.text) and not keep_broken else None


def _sorted_out(
    asked: Sequence[Example], said: Sequence[Completion], keep_broken: bool
) -> OwnAnswers:
    kept: list[Example] = []
    cut = empty = broken = 0
    for example, completion in zip(asked, said, strict=True):
        fault = fault_of(completion, keep_broken)
        empty += fault == "empty"
        broken += fault == "broken"
        if fault is None:
            cut += not completion.finished
            answer = Example(
                example.prompt, completion.text, turns=example.turns, response_ids=completion.ids
            )
            kept.append(answer)
    return OwnAnswers(kept, len(asked), cut, empty, broken)
