"""Instructions that ask a model for another answer to a forget prompt."""

from __future__ import annotations

import re

from unlearning.errors import ConfigError
from unlearning.types import Example

PLACEHOLDERS = ("prompt", "answer")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def instructed(example: Example, instruction: str) -> Example:
    """Returns the Example as a question for another answer to its prompt, with the same turns
    before it.

    Examples:
        >>> asked = instructed(Example("Who?", "Ann."), "{prompt} Not {answer}")
        >>> asked.prompt, asked.response
        ('Who? Not Ann.', '')
    """
    texts = {"prompt": example.prompt, "answer": example.response}
    asked = _PLACEHOLDER.sub(lambda found: texts[found[1]], instruction)
    return Example(asked, "", turns=example.turns)


def check_instruction(instruction: str) -> str:
    """Checks that an instruction has a place for the prompt, and none for anything unknown.

    Returns:
        The instruction.

    Raises:
        ConfigError: it has not.
    """
    names = _PLACEHOLDER.findall(instruction)
    if unknown := [name for name in names if name not in PLACEHOLDERS]:
        raise ConfigError(
            f"{{{unknown[0]}}} stands for nothing here; known are {{prompt}} and {{answer}}, the "
            "answer to forget."
        )
    if "prompt" not in names:
        raise ConfigError("The instruction needs {prompt}, where the forget prompt is to stand.")
    return instruction
