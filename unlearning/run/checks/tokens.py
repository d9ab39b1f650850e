"""Shows where prompt and answer meet as tokens, and warns of what looks wrong there.

The tokenizer alone is loaded, from this machine: nothing is asked of a hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from unlearning.data.chat_template import ChatTemplate
from unlearning.data.encode import (
    encode_answers,
    encode_prompt_texts,
    encode_prompts,
    start_tokens,
)
from unlearning.data.records.source import is_hub_id
from unlearning.data.template import PromptTemplate, Template
from unlearning.errors import ConfigError
from unlearning.generation.stopping import as_tokens
from unlearning.models.load import load_tokenizer
from unlearning.run.checks.data import streamed
from unlearning.run.config.build import Data, build_template
from unlearning.types import Example

MADE_UP = Example("Is 7 a prime number?", "Yes, it is.")
"""Shown where no example can be read yet."""
CHAT_MARKS = re.compile(r"<\|[\w ]+\|>|\[/?INST\]|</?(?:start|end)_of_turn>|<</?SYS>>")


def token_lines(config: DictConfig, data: Data, model: str | None) -> list[str]:
    """Returns lines about the tokens of a forget and a retain example.

    Args:
        model: name or folder of the model; None: it is trained from scratch.

    Raises:
        ConfigError: the template is none for this tokenizer.
    """
    if model is None:
        return ["tokens: not shown, since the tokenizer is trained with the model"]
    name = str(config.model.tokenizer or model)
    tokenizer = _here(name, config.model.revision)
    if tokenizer is None:
        return [f"tokens: not shown, since the tokenizer of {name} is not on this machine yet"]
    template = build_template(config)
    template.check(tokenizer)
    found: list[str] = []
    for where, example in _shown(data):
        found += _boundary(where, example, tokenizer, template)
    return [*found, _stops(model, config.model.revision, tokenizer, template)]


def _here(name: str, revision: str | None) -> PreTrainedTokenizerBase | None:
    if Path(name).expanduser().is_dir():
        return load_tokenizer(name)
    try:
        options = {"revision": revision} if revision else {}
        return load_tokenizer(name, local_files_only=True, **options)
    except (OSError, ConfigError):
        return None


def _shown(data: Data) -> Iterator[tuple[str, Example]]:
    """Yields the names of the first two data sets, with an example of each."""
    there = [(name, module) for name, module in data.items() if module is not None]
    for name, module in there[:2]:
        unread = (module.source and is_hub_id(module.source)) or streamed(module)
        examples = [] if unread else module.examples("train")[:1]
        if examples:
            yield f"data.{name}", examples[0]
        else:
            yield f"data.{name}, not read yet: a made-up example", MADE_UP


def _boundary(
    where: str, example: Example, tokenizer: PreTrainedTokenizerBase, template: Template
) -> Iterator[str]:
    (prompt,) = encode_prompts([example], tokenizer, template)
    (answer,) = encode_answers([example], tokenizer, template)
    whole = [*answer, *template.end_tokens(tokenizer)]
    first, last = whole[:8], whole[8:][-4:]
    gap = " ..." if len(whole) > 12 else ""
    before = "... " if len(prompt) > 8 else ""
    yield (
        f"tokens, {where}: {before}{_pieces(prompt[-8:], tokenizer)} | "
        f"{_pieces(first, tokenizer)}{gap}{' ' if last else ''}{_pieces(last, tokenizer)}"
    )
    text = template.prompt_text(example, tokenizer)
    (said,) = template.answer_texts([example], tokenizer)
    (joint,) = encode_prompt_texts([text + said], tokenizer, template.adds_start)
    agree = joint == [*prompt, *answer]
    counts = [
        f"{token} {prompt.count(number)} + {whole.count(number)}"
        for token, number in (
            (tokenizer.bos_token, tokenizer.bos_token_id),
            (tokenizer.eos_token, tokenizer.eos_token_id),
        )
        if token is not None
    ]
    yield (
        f"  in prompt + answer: {', '.join(counts) or 'neither start nor end token'}; tokenised "
        f"together {'the same' if agree else 'not the same'}"
    )
    if not agree:
        place = next(n for n, pair in enumerate(zip(joint, [*prompt, *answer], strict=False))
                     if pair[0] != pair[1])  # fmt: skip
        yield (
            "  warning: together, there would be "
            f"{_pieces(joint[place : place + 3], tokenizer)} where they meet. Does the template "
            "end with a space? It belongs into data.template.answer_prefix."
        )
    yield from _warnings(prompt, whole, tokenizer, template)


def _warnings(
    prompt: list[int], answer: list[int], tokenizer: PreTrainedTokenizerBase, template: Template
) -> Iterator[str]:
    start = tokenizer.bos_token_id
    if start is not None and prompt[:2] == [start, start]:
        yield f"  warning: the prompt begins with {tokenizer.bos_token} twice."
    if start in start_tokens(tokenizer) and start not in prompt:
        yield f"  warning: the tokenizer begins texts with {tokenizer.bos_token}, not the prompt"
    if template.append_eos and not template.end_tokens(tokenizer):
        yield "  warning: no end token: the tokenizer has none, and the model learns no end."
    unknown = [*prompt, *answer[:-1]].count(tokenizer.unk_token_id)
    if unknown:
        yield f"  warning: {unknown} tokens are {tokenizer.unk_token}, unknown to the tokenizer"
    if isinstance(template, PromptTemplate):
        for mark in dict.fromkeys(CHAT_MARKS.findall(template.prompt_format)):
            known = mark in tokenizer.get_added_vocab()
            yield (
                f"  warning: data.template.prompt_format holds {mark}, "
                + ("a token" if known else "which is no token of this tokenizer, but a mark")
                + " of chat templates. data/template=chat writes the model's own."
            )


def _stops(
    model: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, template: Template
) -> str:
    named = {
        "the template": set(template.end_tokens(tokenizer)),
        "the tokenizer": as_tokens(tokenizer.eos_token_id),
        "the model": as_tokens(_end_of(model, revision)),
    }
    sources: dict[int, list[str]] = {}
    for source, tokens in named.items():
        for token in sorted(tokens):
            sources.setdefault(token, []).append(source)
    each = [
        f"{_pieces([token], tokenizer)} ({', '.join(by)})" for token, by in sorted(sources.items())
    ]
    hint = ""
    if tokenizer.chat_template and not isinstance(template, ChatTemplate):
        hint = "; the tokenizer has a chat template (data/template=chat)"
    return f"tokens that end an answer: {', '.join(each) or 'none'}{hint}"


def _end_of(model: str, revision: str | None) -> int | list[int] | None:
    options: dict[str, Any] = {"local_files_only": True}
    if revision and not Path(model).is_dir():
        options["revision"] = revision
    kinds: tuple[Any, ...] = (GenerationConfig, AutoConfig)
    for kind in kinds:
        try:
            end: int | list[int] | None = kind.from_pretrained(model, **options).eos_token_id
        except (OSError, ValueError, AttributeError):
            continue
        return end
    return None


def _pieces(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return " ".join(str(tokenizer.convert_ids_to_tokens(number)) for number in ids)
