"""Tokenises windows of running text as they are needed, by the rules of `tokenize_examples`.

Nothing is kept, and no window is refused: a run should not end at step 900 because a table of
figures stands somewhere in a corpus. A prompt that fills `max_length` gives its end to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompts
from unlearning.data.template import Template
from unlearning.data.tokenize import Tokenized, to_sequences
from unlearning.data.windows import shorter_prompt
from unlearning.types import Example


def tokenize_windows(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
) -> Tokenized:
    """Tokenises windows; also returns how many answers were cut to fit."""

    def fitting(example: Example) -> Example:
        while len(example.prompt) > 1:
            # A text has at most as many tokens as bytes, and then some for the start.
            text = template.prompt_text(example, tokenizer)
            if len(text.encode()) + 8 < max_length:
                break
            if len(encode_prompts([example], tokenizer, template)[0]) < max_length:
                break
            example = shorter_prompt(example)
        return example

    return to_sequences([fitting(e) for e in examples], tokenizer, template, max_length)
