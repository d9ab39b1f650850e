"""Tokenises prompts and answers: the one place where text of a template becomes tokens.

The tokens of a prompt are the same in training, in scores and in generation. They do not depend on
the answer, which is tokenised apart, so that one prompt can have several answers and one answer
several prompts. Its tokens are those that it has behind a prompt: without the start of text that
many tokenizers put before any text (a `▁` of SentencePiece, a space of byte-level BPE).

Where tokenising prompt and answer together would make one token of the prompt's end and the
answer's beginning ("Answer: " and "Look", whose space goes to the word), the prompt's tokens are
still those that generation reads, and the answer's those of its text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unlearning.data.template import Template
from unlearning.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = ("a", "the", "0")
"""Texts of which any tokenizer should know one."""
BEFORE = ("a", ":", "\n")
"""Texts behind which an answer is tokenised where it would merge with the end of its template."""


def encode_prompts(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, template: Template
) -> list[list[int]]:
    """Returns the tokens of the Examples' prompts, as training and generation read them."""
    texts = [template.prompt_text(example, tokenizer) for example in examples]
    return encode_prompt_texts(texts, tokenizer, template.adds_start)


def encode_prompt_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, adds_start: bool = True
) -> list[list[int]]:
    """Returns the tokens of prompts that are in their template already.

    The tokenizer's own start tokens stand before them, once: not where the text begins with them.
    An end token that it adds to any text is left out, since the prompt goes on.
    """
    rows = _tokens(texts, tokenizer)
    start = start_tokens(tokenizer) if adds_start else []
    return [row if row[: len(start)] == start else [*start, *row] for row in rows]


def encode_answers(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, template: Template
) -> list[list[int]]:
    """Returns the tokens of the Examples' answers as they follow a prompt, without an end token."""
    texts = template.answer_texts(examples, tokenizer)
    return encode_behind(texts, tokenizer, template.before_answer(tokenizer))


def encode_behind(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, before: str
) -> list[list[int]]:
    """Returns the tokens that texts have behind another text, without that text's own.

    Args:
        before: the text before them. Where a text merges with its end, another one is taken.
    """
    found: dict[int, list[int]] = {}
    for context in (before, *BEFORE) if before else BEFORE:
        (head,) = _tokens([context], tokenizer)
        if not head or head[-1] == tokenizer.unk_token_id:  # it could hide the text's first token
            continue
        left = [number for number in range(len(texts)) if number not in found]
        whole = _tokens([context + texts[number] for number in left], tokenizer)
        for number, row in zip(left, whole, strict=True):
            if row[: len(head)] == head:
                found[number] = row[len(head) :]
    left = [number for number in range(len(texts)) if number not in found]
    found.update(zip(left, _tokens([texts[number] for number in left], tokenizer), strict=True))
    return [found[number] for number in range(len(texts))]


def start_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Returns the tokens that a tokenizer puts before any text, such as `<s>`."""
    for probe in PROBES:
        whole = tokenizer(probe)["input_ids"]
        (bare,) = _tokens([probe], tokenizer)
        for place in range(len(whole) - len(bare) + 1 if bare else 0):
            if whole[place : place + len(bare)] == bare:
                return list(whole[:place])
    return [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]


def _tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not texts:
        return []
    options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    return tokenizer(list(texts), add_special_tokens=False, **options)["input_ids"]  # type: ignore[no-any-return]
