"""The prompts that a callback has completed during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from unlearning.data.encode import encode_prompt_texts
from unlearning.data.template import PromptTemplate, Template
from unlearning.generation.generate import Completion, generate
from unlearning.models.decoder import CausalLM
from unlearning.types import Example


@dataclass(frozen=True)
class WrittenPrompts:
    """Prompts in their template, with what ends their completions.

    Args:
        texts: as the model reads them.
        ids: their tokens.
        end_tokens: of the template, see `generate`.
        stop_strings: see `generate`.
    """

    tokenizer: PreTrainedTokenizerBase
    texts: list[str]
    ids: list[list[int]]
    end_tokens: tuple[int, ...]
    stop_strings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def complete(
        self, model: CausalLM, numbers: Sequence[int], max_new_tokens: int, batch_size: int | None
    ) -> list[Completion]:
        """Generates completions of the prompts of these numbers."""
        chosen = [self.ids[number] for number in numbers]
        return generate(
            model, self.tokenizer, chosen, max_new_tokens, batch_size,
            stop_strings=self.stop_strings, end_tokens=self.end_tokens,
        )  # fmt: skip


def written_prompts(
    prompts: Sequence[str | Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    stop_strings: Sequence[str] = (),
) -> WrittenPrompts:
    """Writes and tokenises prompts.

    Args:
        prompts: text that is in its template already, or Examples, which `template` writes.
        template: None takes the default one.
    """
    template = template or PromptTemplate()
    ends = template.end_tokens(tokenizer)
    texts, ids = [], []
    for prompt in prompts:
        written = isinstance(prompt, str)
        text = prompt if written else template.prompt_text(prompt, tokenizer)  # type: ignore[arg-type]
        texts.append(str(text))
        ids += encode_prompt_texts([text], tokenizer, written or template.adds_start)  # type: ignore[list-item]
    return WrittenPrompts(tokenizer, texts, ids, ends, tuple(stop_strings))
