"""Generates completions with their targets: the true answers, cut to comparable length.

An answer to a question ends where the model ends it. A passage of running text has no end, so that
the completion is cut where the true continuation ends, and the continuation where the model had to
stop: BLEU would otherwise punish a perfect copy for its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_answers, encode_prompts
from unlearning.data.template import Template
from unlearning.generation.generate import Completion, decoded, generate
from unlearning.models.decoder import CausalLM
from unlearning.types import Example


@dataclass(frozen=True)
class Target:
    """The target of a completion: the true answer, as far as it can be compared.

    Args:
        text: the data set's own answer, or the beginning of a passage's continuation.
        ids: its tokens, without an end token.
    """

    text: str
    ids: tuple[int, ...]


def complete(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    template: Template,
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    on_answered: Callable[[int], None] | None = None,
    stop_strings: Sequence[str] = (),
) -> list[tuple[Completion, Target]]:
    """Generates a completion of each Example's prompt, and the target to compare it with.

    Args:
        template: one without an end token (`append_eos=False`) makes the examples running text.
        batch_size: see `generate`.
        on_answered: see `generate`.
        stop_strings: see `generate`.

    Raises:
        ConfigError: a prompt with its completion would not fit the model's context.
    """
    true = targets(examples, tokenizer, template, max_new_tokens)
    if not template.append_eos:  # nothing beyond the longest is looked at
        max_new_tokens = max((len(target.ids) for target in true), default=1) or 1
    prompts = encode_prompts(examples, tokenizer, template)
    said = generate(
        model, tokenizer, prompts, max_new_tokens, batch_size, on_answered, stop_strings,
        template.end_tokens(tokenizer),
    )  # fmt: skip
    if not template.append_eos:
        pairs = zip(said, true, strict=True)
        said = [cut(completion, len(target.ids), tokenizer) for completion, target in pairs]
    return list(zip(said, true, strict=True))


def targets(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_new_tokens: int,
) -> list[Target]:
    """Returns the answers; of running text, their first `max_new_tokens` tokens."""
    if not examples:
        return []
    found = []
    rows = iter(encode_answers([e for e in examples if e.response], tokenizer, template))
    for example in examples:
        ids = next(rows) if example.response else []
        target = Target(example.response, tuple(ids))
        if not template.append_eos and len(ids) > max_new_tokens:
            kept = ids[:max_new_tokens]
            text = str(tokenizer.decode(kept, skip_special_tokens=True))
            target = Target(text, tuple(kept))
        found.append(target)
    return found


def cut(completion: Completion, length: int, tokenizer: PreTrainedTokenizerBase) -> Completion:
    """Cuts a completion to its first `length` tokens; it then counts as not finished by the
    model."""
    if completion.num_tokens <= length:
        return completion
    kept = completion.ids[:length]
    return replace(completion, text=decoded(kept, tokenizer), ids=kept, finished=False)
