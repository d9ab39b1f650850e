"""Random mismatch: draws irrelevant answers for the forget prompts from the retain set.

It is data, not a loss (arXiv 2405.15152, Section 3.1): each forget prompt is paired with K answers
of the retain set's training split, drawn anew every epoch from a seed that names the example and
the epoch, so that any step can be drawn again without drawing those before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from unlearning.data.digests import digests, firsts
from unlearning.errors import ConfigError
from unlearning.types import Example


class MismatchSampler:
    """Draws K retain examples with K different answers for a forget prompt.

    Args:
        retain: the retain set's training split.
        per_prompt: K.
        seed: of all draws.

    Raises:
        ConfigError: the retain set has fewer than K different answers.

    Examples:
        >>> from unlearning import Example
        >>> retain = [Example("What is 1 plus 1?", "2"), Example("Is the sky blue?", "yes")]
        >>> sorted(MismatchSampler(retain, per_prompt=2).draw(example=7, epoch=0))
        [0, 1]
    """

    def __init__(self, retain: Sequence[Example], per_prompt: int, seed: int = 0) -> None:
        # The first example with each answer: 8 bytes a number, and no text.
        self.pool = firsts(digests((example.response for example in retain), len(retain)))
        self.per_prompt, self.seed = per_prompt, seed
        if len(self.pool) < per_prompt:
            raise ConfigError(
                f"mismatch_per_prompt={per_prompt} needs as many different retain answers, and the "
                f"retain set's training split has {len(self.pool)}. Use a larger retain set or a "
                "smaller mismatch_per_prompt."
            )

    def draw(self, example: int, epoch: int) -> list[int]:
        """Returns the numbers of K retain examples for one forget example in one epoch."""
        generator = random.Random(f"mismatch/{self.seed}/{epoch}/{example}")
        # A sample of places is the sample of what stands there.
        places = generator.sample(range(len(self.pool)), self.per_prompt)
        return [int(self.pool[place]) for place in places]
