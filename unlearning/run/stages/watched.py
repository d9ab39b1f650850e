"""Chooses the prompts that are watched during unlearning.

What decides over a training must not be what it is scored on: a run that stops as soon as some
passages look forgotten has a flattering score on these. So prompts are watched that no prompt set
asks, from the same data set: of the validation split, else of the test split, where harm was to be
forgotten; of the passages that were trained on, where it was a book.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from unlearning.data.split import Split
from unlearning.errors import ConfigError
from unlearning.metrics.likeness import bleu_to_target
from unlearning.run.config.method import edits_weights
from unlearning.run.config.prompt_sets import one_per_prompt
from unlearning.types import Example, PromptSet

if TYPE_CHECKING:
    from unlearning.data.template import Template
    from unlearning.run.config.build import Data

FEWEST = 6
"""The fewest prompts that are watched."""
_SPLITS: dict[str, tuple[Split, ...]] = {
    "harmful": ("validation", "test"),
    "copyright": ("train",),  # held-out passages were never known
}
_CALLBACK = {"harmful": "harm", "copyright": "bleu"}


@dataclass(frozen=True)
class Watched:
    """Prompts that are watched.

    Args:
        kind: `harmful` or `copyright`.
        of: the prompt set that they stand for.
        scored: whether that set asks them, too.
        template: the set's own, see `PromptSet`.
    """

    kind: str
    of: str
    examples: list[Example]
    scored: bool
    template: Mapping[str, Any] | Template = field(default_factory=dict)

    def prompt_set(self, number: int) -> PromptSet:
        """Returns the first so many as prompts that only BLEU is computed of."""
        metrics = (bleu_to_target,)
        return PromptSet(
            f"watched/{self.of}", "", self.examples[:number], metrics=metrics,
            template=self.template,
        )  # fmt: skip


def watched(config: DictConfig, data: Data, sets: Sequence[PromptSet]) -> Watched | None:
    """Returns the prompts to watch; None where there is nothing harmful and no book to forget.

    Where fewer than `FEWEST` are left that no prompt set asks, they are those of the set itself.
    """
    stands_for = _stands_for(sets)
    if stands_for is None:
        return None
    kind, settings = stands_for.kind, config.callbacks
    numbers = [settings[name].prompts for name in (_CALLBACK[kind], "samples") if settings[name]]
    number = max(numbers, default=0)
    found = list(islice(_unasked(stands_for, data, sets), number))
    scored = len(found) < min(number, FEWEST)
    examples = stands_for.examples[:number] if scored else found
    return Watched(kind, stands_for.name, examples, scored, stands_for.template)


def check_watched(config: DictConfig, data: Data, sets: Sequence[PromptSet]) -> None:
    """Checks that nothing that is scored decides over the training.

    Raises:
        ConfigError: all prompts are scored, and by some of them the run would stop, or its best
            checkpoint be chosen.
    """
    found = None if edits_weights(config) else watched(config, data, sets)
    if found is None or not found.scored:
        return
    name = _CALLBACK[found.kind]
    settings, checkpoint = config.callbacks[name], config.callbacks.checkpoint
    if not settings:
        return
    why = []
    if name == "bleu" and settings.stop and config.finetune is not None:
        why.append("callbacks.bleu.stop=true")
    if checkpoint and str(checkpoint.best).startswith(f"{name}/"):
        why.append(f"callbacks.checkpoint.best={checkpoint.best}")
    if why:
        wanted = settings.prompts
        kept = max(1, len(next(s for s in sets if s.name == found.of).examples) - wanted)
        remedy = {"bleu": "callbacks.bleu.stop=false", "harm": "callbacks.checkpoint.best=null"}
        raise ConfigError(
            f"{' and '.join(why)} would decide by prompts that are scored, since "
            f"{found.of} asks all but a few of its data set's. Leave some: "
            f"evaluation.prompt_sets.{found.of}.limit={kept}; or set {remedy[name]}."
        )


def _stands_for(sets: Iterable[PromptSet]) -> PromptSet | None:
    """Returns the set whose like is watched: held-out harmful prompts, or fine-tuned passages."""

    def rank(prompt_set: PromptSet) -> bool:
        return (prompt_set.split == "train") == (prompt_set.kind == "harmful")

    return min((s for s in sets if s.kind in _SPLITS), key=rank, default=None)


def _unasked(stands_for: PromptSet, data: Data, sets: Iterable[PromptSet]) -> Iterator[Example]:
    """Yields the first example of each prompt that no prompt set asks."""
    module = data.get(stands_for.source)
    if module is None:
        return
    seen = {example.conversation for each in sets for example in each.examples}
    for split in _SPLITS[stands_for.kind]:
        examples = module.examples(split)
        if stands_for.part and split == stands_for.split:  # the other part is asked elsewhere
            examples = one_per_prompt([examples], None, stands_for.part)
        for example in examples:
            if example.conversation not in seen:
                seen.add(example.conversation)
                yield example
