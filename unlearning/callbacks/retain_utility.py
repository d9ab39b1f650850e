"""Measures during training how likely the gold answers to held-out retain prompts still are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lightning import Trainer
from transformers import PreTrainedTokenizerBase

from unlearning.callbacks.shard import gather, shard
from unlearning.data.template import PromptTemplate, Template
from unlearning.data.tokenize import tokenize_examples
from unlearning.errors import ConfigError
from unlearning.fsdp import gathered
from unlearning.generation.generate import padding_token
from unlearning.generation.likelihood import answer_scores
from unlearning.types import Example

LOGGED = "retain_utility/perplexity"


class RetainUtility:
    """Perplexity of the gold answers to fixed retain prompts: a limit of a `CollapseGuard`.

    It is what an evaluation calls `perplexity`: exp of the summed NLL over the number of tokens.
    Nothing is generated. All ranks score their share of the prompts and return the same value. The
    training is not affected: random numbers, modes and weights are untouched.

    Args:
        examples: prompts with gold answers that nothing is trained on.
        tokenizer: of the model.
        perplexity: times that of the model before unlearning, so above 1.
        template: what prompts and answers are written with; None: the default one.
        max_length: tokens of a prompt with its answer, which is cut to fit.
        batch_size: answers at once; None: as many as the free memory holds.
        cache_dir: of tokenised data.

    Attributes:
        nll_before: of the model before unlearning, in nats a token; None until it is measured.

    Raises:
        ConfigError: no example has an answer, or a prompt leaves no room for one.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        perplexity: float,
        template: Template | None = None,
        max_length: int = 512,
        batch_size: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        answered = [example for example in examples if example.response]
        if not answered:
            raise ConfigError("RetainUtility needs at least one example with an answer.")
        self.perplexity, self.batch_size = perplexity, batch_size
        self._sequences = tokenize_examples(
            answered, tokenizer, template or PromptTemplate(), max_length, cache_dir
        ).sequences
        self._pad = padding_token(tokenizer)
        self.nll_before: float | None = None

    def start(self, trainer: Trainer) -> None:
        """Measures the model before unlearning, unless a resumed run has. Collective.

        Raises:
            ConfigError: what is resumed had no such limit.
        """
        if self.nll_before is not None:
            return
        if trainer.global_step > 0:
            raise ConfigError(
                "RetainUtility: the limit is relative to the model before unlearning, which the "
                f"run that is resumed at step {trainer.global_step} did not measure. Begin a run "
                "with it, or resume without it."
            )
        self.nll_before = self.measure(trainer)

    def relative(self, trainer: Trainer) -> float:
        """Returns the perplexity relative to that before unlearning. Collective."""
        assert self.nll_before is not None  # `start` has measured it
        return _exp(self.measure(trainer) - self.nll_before)

    def measure(self, trainer: Trainer) -> float:
        """Computes the mean NLL of a token in nats, and logs its perplexity. Collective: every
        rank has to call it, and gets the same value."""
        mine = shard(len(self._sequences), trainer)
        forward = trainer.precision_plugin.forward_context()
        with gathered(trainer, trainer.lightning_module) as policy, forward:
            scores = answer_scores(
                policy, [self._sequences[n] for n in mine], self._pad, self.batch_size
            )
        of_mine = {n: (each.nll, each.tokens) for n, each in zip(mine, scores, strict=True)}
        found = gather(of_mine, trainer)
        nll = math.fsum(nll for nll, _ in found) / sum(tokens for _, tokens in found)
        for logger in trainer.loggers:  # by hand: there is no `log` before and after the training
            logger.log_metrics({LOGGED: _exp(nll)}, step=trainer.global_step)
        return nll


def _exp(nll: float) -> float:
    """Returns exp of it, finite unless it is not."""
    return math.exp(min(nll, 700.0))
