"""A model's own other answers to the prompts whose answers it is to forget.

AltPO (arXiv 2409.13474) prefers several plausible answers over the one to forget; the model writes
them itself before it unlearns, with both question and answer before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompts
from unlearning.data.instruction import check_instruction, instructed
from unlearning.data.template import Template
from unlearning.generation.generate import Completion, generate
from unlearning.generation.own_answers import OwnAnswers, distinct_prompts, fault_of
from unlearning.generation.sampling import Sampling
from unlearning.models.decoder import CausalLM
from unlearning.progress import counting
from unlearning.types import Example

NAME = "alternate answers"
Draw = Callable[[Sequence[Example], int], Sequence[Completion]]


@dataclass(frozen=True)
class AlternateAnswers(OwnAnswers):
    """Other answers to the forget prompts, and how many were left out or cut.

    Args:
        same: those that are the answer to forget, left out.
        repeated: those that were drawn before for the same prompt, left out.
    """

    same: int = 0
    repeated: int = 0

    def facts(self) -> dict[str, int]:
        """Returns the counts, as `metrics.json` has them."""
        return {**super().facts(), "same": self.same, "repeated": self.repeated}

    def notes(self) -> list[str]:
        """Returns sentences for the report: answers that were left out, and cut ones."""
        found = []
        if self.asked > len(self.examples):
            found.append(
                f"Of {self.asked} alternate answers of the model {self.empty} empty, {self.broken} "
                f"broken and {self.repeated} repeated ones were left out, and {self.same} that "
                "were the answer to forget."
            )
        if self.cut:
            found.append(
                f"{self.cut} alternate answers of the model were cut at their token limit."
            )
        return found


def alternate_answers(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    forget: Iterable[Example],
    template: Template,
    instruction: str,
    samples: int = 5,
    sampling: Sampling | None = None,
    per_prompt: int = 1,
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    stop_strings: Sequence[str] = (),
    keep_broken: bool = False,
) -> AlternateAnswers:
    """Asks a model for other answers to each distinct prompt of the Examples.

    The answers come as Examples of the prompts themselves, without the instruction, and carry the
    tokens that were generated. Left out are the empty and the broken ones, those that are an answer
    to forget, and copies, whatever their case and white space. A prompt that is left with fewer
    than `per_prompt` is asked once more, with other draws.

    Args:
        forget: prompts with their answers to forget.
        instruction: what the model is asked, with `{prompt}` and perhaps `{answer}` in it.
        samples: answers to each prompt, in each of both rounds.
        sampling: temperature, nucleus and seed; None is the model's own distribution, seed 0. Its
            `numbers` are not read.
        batch_size: see `generate`; so are `max_new_tokens` and `stop_strings`.
        keep_broken: keep repetitive answers and those not made of words; empty ones never are.

    Raises:
        ConfigError: the instruction lacks `{prompt}`, or a prompt with its answer would not fit the
            model's context.
    """
    check_instruction(instruction)
    forget, drawn = list(forget), sampling or Sampling()

    def draw(asked: Sequence[Example], first: int) -> Sequence[Completion]:
        rows = encode_prompts([instructed(e, instruction) for e in asked], tokenizer, template)
        numbers = tuple(range(first, first + len(asked)))
        with counting(NAME, len(asked), "answer") as done:
            return generate(
                model, tokenizer, rows, max_new_tokens, batch_size, done, stop_strings,
                template.end_tokens(tokenizer), replace(drawn, numbers=numbers),
            )  # fmt: skip

    return _sorted_out(draw, forget, samples, per_prompt, keep_broken)


def _sorted_out(
    draw: Draw, forget: Sequence[Example], samples: int, per_prompt: int, keep_broken: bool
) -> AlternateAnswers:
    prompts = distinct_prompts(forget)
    known = {(each.conversation, _plain(each.response)) for each in forget}
    kept: dict[tuple[str, str], Example] = {}
    counts: Counter[str] = Counter(asked=0, cut=0, empty=0, broken=0, same=0, repeated=0)
    for _ in range(2):
        asked = prompts * samples
        said = draw(asked, counts["asked"])
        counts["asked"] += len(asked)
        for example, completion in zip(asked, said, strict=True):
            key = example.conversation, _plain(completion.text)
            fault = fault_of(completion, keep_broken)
            if fault or key in known or key in kept:
                counts[fault or ("same" if key in known else "repeated")] += 1
                continue
            counts["cut"] += not completion.finished
            kept[key] = Example(
                example.prompt, completion.text, turns=example.turns, response_ids=completion.ids
            )
        prompts = lacking(kept.values(), prompts, per_prompt)
        if not prompts:
            break
    return AlternateAnswers(list(kept.values()), **counts)


def lacking(
    answers: Iterable[Example], forget: Iterable[Example], per_prompt: int
) -> list[Example]:
    """Returns the first Example of each prompt that has fewer than `per_prompt` of the answers."""
    number = Counter(each.conversation for each in answers)
    return [e for e in distinct_prompts(forget) if number[e.conversation] < per_prompt]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
