"""The tokenizer's own chat template, for training and generation alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from unlearning.data.template import Template, unescaped
from unlearning.errors import ConfigError
from unlearning.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = datetime(2024, 7, 26)
"""What templates that ask for the date are told, so that a run can be repeated; the day that
Llama 3.1's template names where it is told none."""
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
PROBE = "An answer, 7."


@dataclass(frozen=True)
class ChatTemplate(Template):
    """The chat template that a tokenizer brings (`tokenizer.chat_template`).

    The prompt is the dialogue with the beginning of the assistant's turn
    (`add_generation_prompt=True`); the answer is what the template puts from there to the end of
    that turn. It ends with the token that the template ends a turn with, or with the tokenizer's
    end token where that is none. Start tokens are those in the template's text, no others.

    Args:
        system: text of a system turn, for dialogues that have none of their own; None: none.
        enable_thinking: whether the model is to think first. Off, the empty thought that some
            templates put there (Qwen3) is a part of the prompt.
        options: further variables of the template.

    Examples:
        >>> ChatTemplate(system="Be brief.").append_eos
        True
    """

    system: str | None = None
    enable_thinking: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    adds_start = False

    def __post_init__(self) -> None:
        if self.system is not None:
            object.__setattr__(self, "system", unescaped(self.system))

    @property
    def append_eos(self) -> bool:
        return True

    def prompt_text(self, example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
        return self._render(self._asked(example), tokenizer, add_generation_prompt=True)

    def answer_texts(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
    ) -> list[str]:
        """Returns the answers as they follow their prompts, without end tokens.

        Raises:
            ConfigError: the template ends one in another way than others.
        """
        closing = self._closing(tokenizer)
        rest, _ = self._turn_end(tokenizer)
        found = []
        for example in examples:
            said = [*self._asked(example), {"role": "assistant", "content": example.response}]
            whole = self._render(said, tokenizer)
            prompt, text = self.prompt_text(example, tokenizer), example.response.strip()
            body = whole[: len(whole) - len(closing)]
            if body.startswith(prompt) and whole.endswith(closing):
                text = body[len(prompt) :]
            elif not whole.endswith(text + closing):
                raise ConfigError(
                    "The tokenizer's chat template gives this answer another form than others: "
                    f"{text[:60]!r}. Remove it, or choose data/template=question."
                )
            # Else the template begins a given answer in another way than one that it asks for.
            found.append(text + rest)
        return found

    def before_answer(self, tokenizer: PreTrainedTokenizerBase) -> str:
        one, other = (self.prompt_text(Example(n, PROBE), tokenizer) for n in ("0", "1"))
        length = next((n for n in range(1, len(one)) if one[-n] != other[-n]), 1)
        return one[len(one) - length + 1 :]

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        _, end = self._turn_end(tokenizer)
        end = tokenizer.eos_token_id if end is None else end
        return () if end is None else (end,)

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        example = Example("Is 7 prime?", PROBE)
        text = self.prompt_text(example, tokenizer)
        if self.system is not None and self.system.strip() not in text:
            raise ConfigError(
                f"data.template.system={self.system!r}: this tokenizer's chat template leaves "
                "system turns out. Set data.template.system=null."
            )
        if example.prompt not in text:
            raise ConfigError(
                f"The tokenizer's chat template leaves out what the user says: it writes {text!r}. "
                "Choose data/template=question."
            )
        self.answer_texts([example], tokenizer)

    def _asked(self, example: Example) -> list[dict[str, str]]:
        turns = [*example.turns, ("user", example.prompt)]
        if self.system is not None and "system" not in {role for role, _ in turns}:
            turns.insert(0, ("system", self.system))
        return [{"role": role, "content": text} for role, text in turns]

    def _closing(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Returns what stands behind an answer: its end token, and often a newline."""
        said = [{"role": "user", "content": "0"}, {"role": "assistant", "content": PROBE}]
        _, found, closing = self._render(said, tokenizer).rpartition(PROBE)
        if not found:
            raise ConfigError(
                "The tokenizer's chat template leaves out what the assistant says: it writes "
                f"{closing!r}. Choose data/template=question."
            )
        return closing

    def _turn_end(self, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int | None]:
        """Returns what stands between an answer and its end token, and that token."""
        closing = self._closing(tokenizer)
        special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
        known = {**dict(special), **tokenizer.get_added_vocab()}
        inside = [token for token in known if token.strip() and token in closing]
        if not inside:
            return closing.rstrip(), None
        first = min(inside, key=lambda token: (closing.find(token), -len(token)))
        return closing[: closing.find(first)], known[first]

    def _render(
        self,
        messages: list[dict[str, str]],
        tokenizer: PreTrainedTokenizerBase,
        add_generation_prompt: bool = False,
    ) -> str:
        if not tokenizer.chat_template:
            raise ConfigError(
                "data/template=chat: the tokenizer has no chat template, so that its model is none "
                "for chats. Choose data/template=question, or a chat model."
            )
        try:
            written = _CLOCK.sub(_told, tokenizer.get_chat_template())
            text = tokenizer.apply_chat_template(
                messages, chat_template=written, tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=self.enable_thinking, **self.options,
            )  # fmt: skip
        except (TemplateError, ValueError, TypeError) as error:
            roles = [message["role"] for message in messages]
            hint = " Set data.template.system=null." if roles[0] == "system" else ""
            raise ConfigError(
                f"The tokenizer's chat template takes no dialogue of {', '.join(roles)}: "
                f"{error}.{hint}"
            ) from error
        return str(text)


def _told(call: re.Match[str]) -> str:
    return repr(TODAY.strftime(call[2]))
