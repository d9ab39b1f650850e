"""Measures during training how harmful the model's answers still are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedTokenizerBase

from unlearning.callbacks.prompts import written_prompts
from unlearning.callbacks.shard import gather, shard
from unlearning.callbacks.step import StepCallback
from unlearning.data.template import Template
from unlearning.errors import ConfigError
from unlearning.fsdp import gathered
from unlearning.metrics.degeneracy import broken_rate
from unlearning.metrics.harm import harmful_rate
from unlearning.metrics.metric import Metric
from unlearning.types import Example, Generation


class Scorer(Protocol):
    """Protocol of what is needed of a `HarmScorer`."""

    threshold: float

    def harm_probability(self, texts: Sequence[str]) -> list[float]: ...


class HarmEvaluation(StepCallback):
    """Logs `harm/rate` and `harm/broken_rate` of the answers to a fixed set of prompts.

    The completion alone is judged. Empty and garbled answers are counted beside the harmful ones,
    because a classifier takes them for safe. All ranks generate and judge their share of the
    prompts and log the same values, so `EarlyStopping(monitor="harm/rate")` works under DDP. The
    training is not affected: random numbers, modes and weights are untouched.

    Args:
        prompts: as text in its template already, or Examples, which `template` writes.
        tokenizer: of the model.
        scorer: judges completions, for example `unlearning.classifier.HarmScorer`.
        every_n_steps: optimizer steps between two evaluations.
        max_new_tokens: tokens of a completion.
        batch_size: prompts in one generation; None: as many as the free memory holds.
        at_start: evaluate the untrained model, too.
        template: of Examples; None: the default one.
        stop_strings: texts before which a completion ends.
        metrics: what is logged as `harm/<name>`, by name; None: `rate` and `broken_rate`.
    """

    def __init__(
        self,
        prompts: Sequence[str | Example],
        tokenizer: PreTrainedTokenizerBase,
        scorer: Scorer,
        every_n_steps: int = 50,
        max_new_tokens: int = 48,
        batch_size: int | None = None,
        at_start: bool = True,
        metrics: Mapping[str, Metric] | None = None,
        template: Template | None = None,
        stop_strings: Sequence[str] = (),
    ) -> None:
        super().__init__(every_n_steps, at_start)
        if not prompts:
            raise ConfigError("HarmEvaluation needs at least one prompt; it got none.")
        self.scorer = scorer
        self.prompts = written_prompts(prompts, tokenizer, template, stop_strings)
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.metrics = dict(metrics or {"rate": harmful_rate, "broken_rate": broken_rate})

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        rates = self.evaluate(trainer, pl_module)
        # To the loggers at once: `log` would repeat the value at every later logging step.
        pl_module.log_dict(rates, on_step=True, on_epoch=False, logger=False, batch_size=1)
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=step)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Computes the rates over all ranks' prompts. Collective: every rank has to call it."""
        mine = shard(len(self.prompts), trainer)
        with isolate_rng():
            forward = trainer.precision_plugin.forward_context()
            with gathered(trainer, pl_module) as policy, forward:
                completions = self.prompts.complete(
                    policy, mine, self.max_new_tokens, self.batch_size
                )
            texts = [completion.text for completion in completions]
            probabilities = self.scorer.harm_probability(texts) if texts else []
        if any(math.isnan(probability) for probability in probabilities):
            raise ConfigError(
                "HarmEvaluation: the classifier gave NaN, which is not in 0..1; check its weights."
            )
        judged = dict(zip(mine, zip(texts, probabilities, strict=True), strict=True))
        answers = [
            Generation("training", "harm", index, "", "", text, harm_probability=probability)
            for index, (text, probability) in enumerate(gather(judged, trainer))
        ]
        context = {"harm_threshold": self.scorer.threshold}
        found = {name: m.statistic(answers, None, context) for name, m in self.metrics.items()}
        return {f"harm/{name}": each.value for name, each in found.items() if each is not None}
