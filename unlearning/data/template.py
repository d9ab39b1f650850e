"""Prompt templates: how prompt and answer are written for a model without a chat format."""

from __future__ import annotations

from dataclasses import dataclass

from unlearning.errors import ConfigError

PLACEHOLDER = "{prompt}"


@dataclass(frozen=True)
class PromptTemplate:
    """The text around a prompt, and between it and the answer.

    The default is the question/answer form with which arXiv 2310.10683 writes PKU-SafeRLHF for
    OPT, which has no chat format of its own (its released code has a further space before the
    second `###`). The space before the answer belongs to the answer: byte-level BPE makes it part
    of the answer's first word, and prompt and answer are tokenised separately.

    Args:
        prompt_format: text that contains `{prompt}` exactly once. Other braces are plain text.
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

    def __post_init__(self) -> None:
        found = self.prompt_format.count(PLACEHOLDER)
        if found != 1:
            raise ConfigError(
                f"prompt_format must contain {PLACEHOLDER} exactly once; {self.prompt_format!r} "
                f"contains it {found} times. Write for example 'Q: {PLACEHOLDER} A:'."
            )

    def prompt(self, text: str) -> str:
        """Puts a prompt into the template."""
        # Not str.format: a prompt or a template may hold braces that mean nothing.
        return self.prompt_format.replace(PLACEHOLDER, text)

    def answer(self, text: str) -> str:
        """Puts an answer into the template; the end token is added when it is tokenised."""
        return self.answer_prefix + text
