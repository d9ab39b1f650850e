"""Cuts chapters into passages, and passages into prompt and continuation."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from unlearning.data.sentences import sentences
from unlearning.errors import ConfigError
from unlearning.loading import load_tokenizer
from unlearning.ranges import Count, InnerShare
from unlearning.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORD = re.compile(r"\S+")
PARAGRAPH_BREAK = re.compile(r"\n{2,}")


@dataclass(frozen=True)
class PromptLength:
    """The length of a passage's prompt; exactly one of the three is given.

    Args:
        fraction: of the passage's characters (arXiv 2405.15152: the first fifth).
        characters: number of characters.
        tokens: number of tokens.
        tokenizer: its hub id or folder; None takes the data module's own.

    Raises:
        ConfigError: none or several are given, or a value makes no sense.
    """

    fraction: InnerShare | None = None
    characters: Count | None = None
    tokens: Count | None = None
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("fraction", "characters", "tokens")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(
                f"prompt={given}: give exactly one of fraction, characters and tokens, for example "
                "{fraction: 0.2}."
            )
        name, value = next(iter(given.items()))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "fraction" and not (number and 0 < value < 1):
            raise ConfigError(f"prompt.fraction={value!r}: expected a share between 0 and 1.")
        if name != "fraction" and not (number and isinstance(value, int) and value >= 1):
            raise ConfigError(f"prompt.{name}={value!r}: expected a whole number of at least 1.")

    def counter(self, own: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase | None:
        """Returns the tokenizer that counts, or None where the length is not in tokens.

        Args:
            own: the data module's.

        Raises:
            ConfigError: there is none, or it cannot be loaded.
        """
        if self.tokens is None:
            return None
        if self.tokenizer is None:
            if own is None:
                raise ConfigError(
                    f"prompt.tokens={self.tokens} needs a tokenizer to count with. Set "
                    "prompt.tokenizer to the model's name or folder, or give the prompt's length "
                    "in characters."
                )
            return own
        try:
            return load_tokenizer(self.tokenizer)
        except ConfigError as error:
            raise ConfigError(f"prompt.tokenizer={self.tokenizer!r}: {error}") from error

    @classmethod
    def of(cls, settings: PromptLength | Mapping[str, Any]) -> PromptLength:
        """Builds a PromptLength from a mapping, as a configuration file has it.

        Raises:
            ConfigError: it has an unknown key.
        """
        if isinstance(settings, cls):
            return settings
        known = [field.name for field in fields(cls)]
        given = dict(settings)  # type: ignore[arg-type]
        for name in given:
            if name not in known:
                raise ConfigError(f"prompt.{name}: unknown; expected one of {', '.join(known)}.")
        return cls(**given)


def cut_passages(text: str, num_words: int) -> list[str]:
    """Cuts a text into consecutive passages of at most `num_words` words.

    Whole paragraphs are taken as long as they fit. One that is longer than a passage is taken by
    sentences, and such a sentence by words. Only the white space between passages is lost.

    Examples:
        >>> cut_passages("One two three. Four five.", 3)
        ['One two three.', 'Four five.']
    """
    passages, begin, end, count = [], 0, 0, 0
    for atom_begin, atom_end in _atoms(text, num_words):
        size = len(text[atom_begin:atom_end].split())
        if count and count + size > num_words:
            passages.append(text[begin:end])
            count = 0
        begin = begin if count else atom_begin
        end, count = atom_end, count + size
    return [*passages, text[begin:end]] if count else passages


def _atoms(text: str, num_words: int) -> Iterator[tuple[int, int]]:
    """Returns the spans that are not cut any further: a paragraph, else a sentence, else some
    words."""
    for begin, end in _paragraphs(text):
        if len(text[begin:end].split()) <= num_words:
            yield begin, end
            continue
        for sentence in sentences(text[begin:end]):
            spans = [match.span() for match in WORD.finditer(sentence)]
            for k in range(0, len(spans), num_words):
                some = spans[k : k + num_words]
                yield begin + some[0][0], begin + some[-1][1]
            begin += len(sentence)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    breaks = [place for match in PARAGRAPH_BREAK.finditer(text) for place in match.span()]
    borders = [0, *breaks, len(text)]
    return zip(borders[::2], borders[1::2], strict=True)


def cut_prompt(
    passage: str, length: PromptLength, tokenizer: PreTrainedTokenizerBase | None = None
) -> Example | None:
    """Cuts a passage into prompt and continuation; None where it is no longer than its prompt.

    The prompt ends with the last word that is wholly within its length, or with the first word
    where that one is longer. `prompt + response == passage`, so that the response begins with
    white space, and holds at least a word.

    Args:
        tokenizer: what `length.counter` gives.
    """
    ends = [match.end() for match in WORD.finditer(passage)]
    inner = ends[:-1]
    if not inner:
        return None
    if length.tokens is not None:
        assert tokenizer is not None

        def count(end: int) -> int:
            return len(tokenizer(passage[:end], add_special_tokens=False)["input_ids"])

        if count(len(passage)) <= length.tokens:
            return None
        within = bisect_right(inner, length.tokens, key=count)
    else:
        if length.characters is not None and len(passage) <= length.characters:
            return None
        limit = length.characters or int((length.fraction or 0) * len(passage))
        within = bisect_right(inner, limit)
    cut = inner[max(within, 1) - 1]
    return Example(passage[:cut], passage[cut:])
