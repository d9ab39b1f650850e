"""Tokenises Examples, cached on disk by content."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearning.data.encode import encode_answers, encode_prompts
from unlearning.data.template import Template
from unlearning.data.token_store import read_tokens, write_tokens
from unlearning.errors import ConfigError
from unlearning.files.once import made_once
from unlearning.types import Example, TokenizedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
FORMAT = 3  # raise it when the cached file's meaning changes
BLOCK = 1000
"""Examples that are tokenised at a time: enough for the tokenizer's threads, little to hold."""


class OverlongPromptError(ConfigError):
    """A prompt alone fills the length that it shares with its answer."""


@dataclass(frozen=True)
class Tokenized:
    """Tokenised examples, in the order of their Examples.

    Args:
        sequences: one for each Example.
        truncated: how many answers were cut to fit `max_length`.
    """

    sequences: Sequence[TokenizedExample]
    truncated: int


def tokenize_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
    cache_dir: str | Path | None = None,
) -> Tokenized:
    """Tokenises prompts and answers, separately; see `unlearning.data.encode`. An answer that a
    model generated keeps its tokens (`Example.response_ids`).

    An Example that is too long loses the end of its answer, never of its prompt; how many did is
    counted and logged. The sequences lie in a file of 4 bytes a token and 16 a sequence; one is in
    memory when it is asked for.

    Args:
        max_length: tokens of prompt and answer together, at most the model's context.
        cache_dir: where to keep the file; the key is the content, so an edit is never missed. None
            takes a file without a name in the temporary folder, which goes with its last reader.

    Raises:
        ConfigError: a prompt alone fills `max_length`, or a prompt or an answer has no token.
    """

    def blocks() -> Iterator[tuple[Sequence[TokenizedExample], int]]:
        for start in range(0, len(examples), BLOCK):
            block = examples[start : start + BLOCK]
            try:
                done = to_sequences(block, tokenizer, template, max_length, start)
            except OverlongPromptError as error:
                raise overlong_prompts(examples, tokenizer, template, max_length) from error
            yield done.sequences, done.truncated

    def make(path: Path) -> None:
        with path.open("wb") as file:
            write_tokens(file, blocks())

    if cache_dir is None:
        with tempfile.TemporaryFile() as file:
            write_tokens(file, blocks())
            result = Tokenized(*read_tokens(file))
    else:
        key = _key(examples, tokenizer, template, max_length)
        path = made_once(Path(cache_dir) / "tokens" / f"{key}.bin", make)
        with path.open("rb") as kept:
            result = Tokenized(*read_tokens(kept))
        log.info("tokens of %d examples: %d bytes in %s", len(examples), path.stat().st_size, path)
    if result.truncated:
        log.warning(
            "%d of %d answers were cut to fit %d tokens; prompts are whole.",
            result.truncated, len(examples), max_length,
        )  # fmt: skip
    return result


def to_sequences(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
    first: int = 0,
) -> Tokenized:
    """Tokenises Examples into a list in memory, as `tokenize_examples` without its cache and log.

    Args:
        first: the number of the first Example, for errors.

    Raises:
        ConfigError: a prompt alone fills `max_length`, or a prompt or an answer has no token.
    """
    if not examples:
        return Tokenized([], 0)
    prompts = encode_prompts(examples, tokenizer, template)
    written = [example for example in examples if not example.response_ids]
    encoded = iter(encode_answers(written, tokenizer, template))
    answers = [list(e.response_ids) if e.response_ids else next(encoded) for e in examples]
    end = template.end_tokens(tokenizer)
    sequences: list[TokenizedExample] = []
    truncated = 0
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        # The text too: byte-level BPE makes a token of the space before an empty answer.
        if not answer or not examples[number].response.strip():
            raise ConfigError(
                f"Example {first + number} has an answer without a single token: "
                f"{examples[number].response!r}. Remove the record; the tokenizer drops all of it."
            )
        if not prompt:
            raise ConfigError(
                f"The prompt of Example {first + number} has no token: "
                f"{examples[number].prompt[:60]!r}. Remove it, or give it a template with text."
            )
        room = max_length - len(prompt)
        if room < 1:
            raise OverlongPromptError(
                f"The prompt of Example {first + number} has {len(prompt)} tokens, which leaves no "
                f"room for an answer in max_length={max_length}. Raise max_length (up to the "
                f"model's context) or remove the prompt, which begins "
                f"{examples[number].prompt[:60]!r}."
            )
        whole = answer if examples[number].response_ids else [*answer, *end]
        truncated += len(whole) > room
        sequences.append(TokenizedExample(tuple(prompt), tuple(whole[:room])))
    return Tokenized(sequences, truncated)


def overlong_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
) -> OverlongPromptError:
    """Makes the error that says how many prompts leave no room for an answer, and of the longest
    how long it is and how it begins."""
    count, longest, begins = 0, 0, ""
    for first in range(0, len(examples), BLOCK):
        block = examples[first : first + BLOCK]
        found = to_sequences(block, tokenizer, template, sys.maxsize).sequences
        for example, sequence in zip(block, found, strict=True):
            length = len(sequence.prompt_ids)
            count += length >= max_length
            if length > longest:
                longest, begins = length, example.prompt[:60]
    return OverlongPromptError(
        f"{count} of {len(examples)} prompts leave no room for an answer in max_length="
        f"{max_length} tokens; the longest has {longest} and begins {begins!r}. Raise max_length "
        "(up to the model's context), or remove or shorten these prompts."
    )


def _key(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
) -> str:
    settings = [FORMAT, repr(template), max_length]
    digest = hashlib.sha256(json.dumps([*settings, tokenizer_fingerprint(tokenizer)]).encode())
    for example in examples:
        content: list[Any] = [example.prompt, example.response]
        content += [example.turns] if example.turns else []
        content += [{"response_ids": example.response_ids}] if example.response_ids else []
        digest.update(json.dumps(content).encode())
    return digest.hexdigest()[:32]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a hash of a tokenizer's vocabulary and rules, independent of where it lies."""
    rules = getattr(tokenizer, "backend_tokenizer", None)
    content = (
        rules.to_str() if rules is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    )
    special = [
        str(tokenizer.special_tokens_map),
        str(tokenizer.chat_template),
        tokenizer("a b", add_special_tokens=True)["input_ids"],
    ]
    return hashlib.sha256((content + json.dumps(special)).encode()).hexdigest()[:16]
