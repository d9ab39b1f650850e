"""Turns the dialogues of records into a prompt, the turns before it, and an answer.

Forms: `messages` ([{role, content}], UltraChat), `conversations` ([{from, value}], ShareGPT), the
text of HH-RLHF ("\\n\\nHuman: ...\\n\\nAssistant: ..."), and answers alone beside a prompt's column
(`prompt` with `chosen` or `rejected`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from unlearning.data.records.cells import checked_text, looks_like_list, shortened
from unlearning.errors import ConfigError
from unlearning.types import TurnRole

ROLES: dict[str, TurnRole] = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant",
}  # fmt: skip
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
JOINT = "\n\n"  # between what one speaker says in two turns that follow each other

Turn = tuple[TurnRole, str]


class Dialogue(NamedTuple):
    """A dialogue up to its last answer.

    Attributes:
        turns: what was said before the prompt.
        prompt: the user turn before the answer.
        answer: the last assistant turn; empty where there is none.
    """

    turns: tuple[Turn, ...]
    prompt: str
    answer: str


def parse_dialogue(cell: Any, prompt: Any, where: str) -> Dialogue:
    """Parses the dialogue of one record.

    Its last assistant turn is the answer, and what comes after that is left out. Turns of one
    speaker that follow each other are joined by a blank line.

    Args:
        cell: a list of messages; text in the form of HH-RLHF; or the answer alone, as text.
        prompt: what is put before an answer that stands alone, in any of these forms; else unused.
        where: of the cell, for errors.

    Raises:
        ConfigError: a role or a content that is not supported (tools, images), or no user turn
            stands before the answer.

    Examples:
        >>> parse_dialogue("\\n\\nHuman: Who?\\n\\nAssistant: I.", None, "row 1")
        Dialogue(turns=(), prompt='Who?', answer='I.')
    """
    said = list(_turns(cell, where, alone="assistant"))
    if said and all(role == "assistant" for role, _ in said):
        if prompt is None:
            raise ConfigError(
                f"{where}: there is an answer alone, and no prompt beside it. Name the column of "
                "the prompt with prompt_column."
            )
        said = [*_asked(prompt, f"{where}, its prompt"), *said]
    turns = _joined(said)
    last = max((n for n, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if last is None:
        asked = [text for role, text in turns if role == "user"]
        return Dialogue((), asked[-1] if asked else "", "")
    if last == 0 or turns[last - 1][0] != "user":
        before = f"a {turns[last - 1][0]} turn" if last else "nothing"
        raise ConfigError(
            f"{where}: before the last assistant turn stands {before}, expected a user turn, which "
            "is the prompt. Remove the record."
        )
    return Dialogue(tuple(turns[: last - 1]), turns[last - 1][1], turns[last][1])


def _asked(prompt: Any, where: str) -> list[Turn]:
    """Returns the turns of a prompt's own column; it may end with "Assistant:"."""
    said = list(_turns(prompt, where, alone="user"))
    if said and said[-1] == ("assistant", ""):
        said.pop()
    if said and said[-1][0] != "user":
        raise ConfigError(f"{where} ends with a {said[-1][0]} turn, expected a user turn.")
    return said


def _joined(said: Iterable[Turn]) -> list[Turn]:
    turns: list[Turn] = []
    for role, text in said:
        if turns and turns[-1][0] == role:
            turns[-1] = role, f"{turns[-1][1]}{JOINT}{text}"
        else:
            turns.append((role, text))
    return turns


def _turns(cell: Any, where: str, alone: TurnRole) -> Iterator[Turn]:
    """Yields the turns of a cell; a text without speakers is one turn of the role `alone`."""
    if isinstance(cell, str) and looks_like_list(cell):
        cell = _unpacked(cell, where)
    if isinstance(cell, str):
        text = checked_text(cell, where, "dialogue", strip=False)
        parts = SPEAKER.split(text.lstrip("\n") if SPEAKER.match(text.lstrip("\n")) else text)
        if len(parts) > 1 and not parts[0].strip():
            for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
                yield ROLES[speaker.lower()], said.strip()
        elif text.strip():
            yield alone, text.strip()
    elif isinstance(cell, list):
        for number, message in enumerate(cell, start=1):
            yield _turn(message, f"{where}, message {number}")
    elif cell is not None:
        raise ConfigError(
            f"{where}: {shortened(cell)} is neither a list of messages nor the text of a dialogue."
        )


def _unpacked(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: {shortened(text)} looks like a list of messages that was written as text, "
            "and is not JSON. Write the column as a real list (jsonl or parquet)."
        ) from error


def _turn(message: Any, where: str) -> Turn:
    names = ("role", "content") if isinstance(message, Mapping) and "role" in message else (
        "from", "value"
    )  # fmt: skip
    if not isinstance(message, Mapping) or any(name not in message for name in names):
        raise ConfigError(
            f"{where}: {shortened(message)} is no message; expected {{role, content}} or "
            "{from, value}."
        )
    role = str(message[names[0]]).strip()
    if role.lower() not in ROLES or message.get("tool_calls"):
        what = "tool_calls" if role.lower() in ROLES else f"the role {shortened(role)}"
        raise ConfigError(
            f"{where} has {what}, which is not supported; roles are {', '.join(ROLES)}. Leave such "
            "records out."
        )
    return ROLES[role.lower()], _content(message[names[1]], where)


def _content(content: Any, where: str) -> str:
    """Returns the text of a message; parts of a list are joined without anything between."""
    if not isinstance(content, list):
        return checked_text(content, where, "content")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text" or "text" not in part:
            raise ConfigError(
                f"{where}: its content has a part {shortened(part)}; only parts of text are "
                "supported ({type: text, text: ...}). Leave such records out."
            )
        texts.append(checked_text(part["text"], where, "content", strip=False))
    return "".join(texts).strip()
