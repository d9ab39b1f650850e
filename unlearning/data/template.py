"""Templates: how prompt and answer are written for a model, as text."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from unlearning.errors import ConfigError
from unlearning.types import Example, PromptSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "{prompt}"
BETWEEN_TURNS = "\n\n"
_ESCAPED = re.compile(r"(?<!\\)\\([nt])")


def unescaped(text: str) -> str:
    r"""Makes a newline of `\n` and a tab of `\t`, which a shell hands over as two characters.

    Examples:
        >>> unescaped(r"Q: {prompt}\nA:")
        'Q: {prompt}\nA:'
    """
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else "\t", text)


@dataclass(frozen=True)
class Template(ABC):
    """Interface: the text around a prompt, and that of an answer. A dataclass of its settings.

    The prompt is what generation reads; the answer is what the model is to say from there on. Both
    are tokenised in `unlearning.data.encode` alone, for training, scores and generation alike.

    Attributes:
        adds_start: whether the tokenizer's own start tokens are put before a prompt; False where
            the text holds what the model expects.
    """

    adds_start: ClassVar[bool]

    @property
    @abstractmethod
    def append_eos(self) -> bool:
        """Whether an answer ends; False for passages of running text, which go on."""

    @abstractmethod
    def prompt_text(self, example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
        """Returns the prompt as the model reads it, with the turns before it."""

    @abstractmethod
    def answer_texts(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
    ) -> list[str]:
        """Returns the answers as they follow their prompts, without end tokens."""

    @abstractmethod
    def before_answer(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Returns the text with which every prompt ends; "" where that is the prompt's own."""

    @abstractmethod
    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """Returns the token that ends an answer; none where answers have no end."""

    @abstractmethod
    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Checks that prompts can be written for this tokenizer's model.

        Raises:
            ConfigError: they cannot; says why.
        """


def template_of(prompt_set: PromptSet, template: Template) -> Template:
    """Returns the template of a prompt set: its own, or the run's with its own settings.

    Args:
        template: the run's.
    """
    own = prompt_set.template
    return own if isinstance(own, Template) else replace(template, **own)


@dataclass(frozen=True)
class PromptTemplate(Template):
    r"""The text around a prompt, and between it and the answer.

    The default is the question/answer form with which arXiv 2310.10683 writes PKU-SafeRLHF for
    OPT, which has no chat format of its own (its released code has a further space before the
    second `###`). The space before the answer belongs to the answer: byte-level BPE makes it part
    of the answer's first word, and prompt and answer are tokenised separately.

    Earlier turns of a dialogue are written in the same form, each answer behind its prompt; a blank
    line is between them, and a system turn stands as it is.

    Args:
        prompt_format: text that contains `{prompt}` exactly once. Other braces are plain text; `\n`
            and `\t` as two characters are newline and tab, here and in `answer_prefix`.
        answer_prefix: what is put before every answer.
        append_eos: end each answer with the end token, so that the model learns where to stop. Off
            for passages of running text, which have no end.

    Raises:
        ConfigError: `{prompt}` is missing or stands there more than once.

    Examples:
        >>> template = PromptTemplate("Question: {prompt} Answer:")
        >>> template.prompt("How do I cheat?") + template.answer("Look around.")
        'Question: How do I cheat? Answer: Look around.'
    """

    prompt_format: str = "### Question: {prompt}\n### Answer:"
    answer_prefix: str = " "
    append_eos: bool = True
    adds_start = True

    def __post_init__(self) -> None:
        for name in ("prompt_format", "answer_prefix"):
            object.__setattr__(self, name, unescaped(getattr(self, name)))
        found = self.prompt_format.count(PLACEHOLDER)
        if found != 1:
            raise ConfigError(
                f"prompt_format must contain {PLACEHOLDER} exactly once; {self.prompt_format!r} "
                f"contains it {found} times. Write for example 'Q: {PLACEHOLDER} A:'."
            )

    def prompt(self, asked: str | Example) -> str:
        """Puts a prompt into the template, with the turns before it.

        Raises:
            ConfigError: turns that this template has no form for.
        """
        if isinstance(asked, Example):
            return BETWEEN_TURNS.join([*self._earlier(asked), self.prompt(asked.prompt)])
        # Not str.format: a prompt or a template may hold braces that mean nothing.
        return self.prompt_format.replace(PLACEHOLDER, asked)

    def answer(self, text: str) -> str:
        """Puts an answer into the template; the end token is added when it is tokenised."""
        return self.answer_prefix + text

    def prompt_text(self, example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
        return self.prompt(example)

    def _earlier(self, example: Example) -> list[str]:
        """The turns before the prompt, as text.

        Raises:
            ConfigError: two users' or two assistants' turns in a row, or running text.
        """
        if example.turns and not self.append_eos:
            raise ConfigError(
                f"The prompt {example.prompt[:60]!r} has {len(example.turns)} turns before it, and "
                "the template is one of running text. Choose data/template=chat or question."
            )
        written: list[str] = []
        asked: str | None = None
        for role, text in example.turns:
            if role == "system" and asked is None:
                written.append(text)
            elif role == "user" and asked is None:
                asked = self.prompt(text)
            elif role == "assistant" and asked is not None:
                written.append(asked + self.answer(text))
                asked = None
            else:
                break
        else:
            if asked is None:
                return written
        raise ConfigError(
            f"The turns before the prompt {example.prompt[:60]!r} are of "
            f"{', '.join(role for role, _ in example.turns)}. A template without a chat format "
            "takes a user's and an assistant's turn in turn; choose data/template=chat, or "
            "complete the dialogue."
        )

    def answer_texts(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
    ) -> list[str]:
        return [self.answer(example.response) for example in examples]

    def before_answer(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return self.prompt_format.split(PLACEHOLDER)[1]

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        end = tokenizer.eos_token_id
        return (end,) if self.append_eos and end is not None else ()

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Does nothing: this text can be written for any tokenizer."""
