"""Alternate answers to the forget prompts: refusals, or plausible other answers.

Answers that a model is to give in place of those to forget (IdkNLL and IdkDPO of TOFU, AltPO).
They are drawn as mismatch answers are, from a seed that names the example and the epoch.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from unlearning.errors import ConfigError
from unlearning.types import Example, TokenizedExample

Numbered = tuple[int, TokenizedExample]


class Alternates:
    """Draws so many alternate answers for a forget prompt.

    Args:
        answers: texts that suit every prompt (refusals), or Examples whose prompts are the forget
            prompts, several for one prompt where there are several answers to it. Those of other
            prompts are left out.
        forget: the forget set's training split.
        tokenize: Examples to tokens.
        per_prompt: answers for each prompt.
        seed: of all draws.

    Raises:
        ConfigError: a forget prompt has fewer than `per_prompt` different answers.
    """

    def __init__(
        self,
        answers: Iterable[str | Example],
        forget: Sequence[Example],
        tokenize: Callable[[Sequence[Example]], Sequence[TokenizedExample]],
        per_prompt: int = 1,
        seed: int = 0,
    ) -> None:
        prompts = {example.conversation for example in forget}
        wanted = (a for a in answers if isinstance(a, str) or a.conversation in prompts)
        listed = list(dict.fromkeys(wanted))
        self.per_prompt, self.seed = per_prompt, seed
        everywhere = [text for text in listed if isinstance(text, str)]
        if everywhere and len(everywhere) < len(listed):
            raise ConfigError("alternate answers are all texts, or all Examples; found both.")
        self._numbers = self._by_prompt(listed, forget)
        # Answers are tokenised apart, so that any prompt does; the shortest leaves most room.
        one = min(forget, key=lambda example: len(example.conversation))
        asked = Example(one.prompt, one.response, turns=one.turns)
        self._tokens = tokenize(
            [replace(asked, response=a) if isinstance(a, str) else a for a in listed]
        )

    def _by_prompt(
        self, listed: Sequence[str | Example], forget: Sequence[Example]
    ) -> list[Sequence[int]]:
        """Returns for each forget example the numbers of its answers."""
        found: dict[str, list[int]] = defaultdict(list)
        common = range(len(listed)) if listed and isinstance(listed[0], str) else None
        for number, answer in enumerate(listed):
            if isinstance(answer, Example):
                found[answer.conversation].append(number)
        numbers: list[Sequence[int]] = [
            found[e.conversation] if common is None else common for e in forget
        ]
        for example, each in zip(forget, numbers, strict=True):
            if len(each) < self.per_prompt:
                raise ConfigError(
                    f"The forget prompt {example.prompt[:60]!r} has {len(each)} alternate answers, "
                    f"and alternates_per_prompt={self.per_prompt}. Give more of them, or texts "
                    "that suit every prompt."
                )
        return numbers

    def draw(self, example: int, epoch: int) -> list[Numbered]:
        """Draws numbers and tokens of the answers for one forget example in one epoch."""
        generator = random.Random(f"alternate/{self.seed}/{epoch}/{example}")
        chosen = generator.sample(self._numbers[example], self.per_prompt)
        return [(number, self._tokens[number]) for number in chosen]
