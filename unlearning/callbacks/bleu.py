"""Measures during training how much of a text the model still continues."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from unlearning.callbacks.shard import gather, shard
from unlearning.callbacks.step import StepCallback
from unlearning.data.template import Template
from unlearning.errors import ConfigError
from unlearning.fsdp import gathered
from unlearning.generation.continuation import complete
from unlearning.metrics.likeness import bleu_to_target
from unlearning.types import Example, Generation

log = logging.getLogger(__name__)


class BleuEvaluation(StepCallback):
    """Logs `bleu/forget`, the corpus BLEU of completions against the true continuations.

    Completions are made and cut as for the scores of a run. All ranks complete their share of the
    prompts and log the same value, over the texts of all ranks, so that all stop in the same step.
    The training is not affected: random numbers, modes and weights are untouched.

    Text counts as forgotten when the BLEU is no longer above `stop_at`: what the model before
    fine-tuning, which never saw the text, scores on the same examples.

    Args:
        examples: prompts with their true continuations, without the template.
        tokenizer: of the model.
        template: what prompts and continuations are written with.
        every_n_steps: optimizer steps between two evaluations.
        stop_at: BLEU, 0..100, at or below which the training ends; None: it never does.
        patience: evaluations in a row at or below it that end the training.
        max_new_tokens: tokens of a completion.
        batch_size: prompts in one generation; None: as many as the free memory holds.
        at_start: evaluate the untrained model, too. That evaluation never ends the training.
        stop_strings: texts before which a completion ends.

    Attributes:
        reason: why the training was ended, in words; None where it was not.

    Raises:
        ConfigError: no examples, or settings that make no sense.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        every_n_steps: int = 50,
        stop_at: float | None = None,
        patience: int = 1,
        max_new_tokens: int = 64,
        batch_size: int | None = None,
        at_start: bool = True,
        stop_strings: Sequence[str] = (),
    ) -> None:
        super().__init__(every_n_steps, at_start)
        if not examples:
            raise ConfigError("BleuEvaluation needs at least one example; it got none.")
        if stop_at is not None and not 0 <= stop_at <= 100:
            raise ConfigError(
                f"BleuEvaluation: stop_at is {stop_at}; expected a BLEU of 0 to 100, or None to "
                "never stop."
            )
        if patience < 1:
            raise ConfigError(f"BleuEvaluation: patience is {patience}; it must be at least 1.")
        self.examples, self.tokenizer, self.template = list(examples), tokenizer, template
        self.stop_at, self.patience = stop_at, patience
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.stop_strings = tuple(stop_strings)
        self._reset()

    def _reset(self) -> None:
        self.reason: str | None = None
        self.in_a_row = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._reset()  # a resumed run's state is loaded after this

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Saved in the very step that ended the training: a resume does not train past it.
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        found = {"bleu/forget": self.evaluate(trainer, pl_module)}
        # To the loggers at once: `log` would repeat the value at every later logging step.
        pl_module.log_dict(found, on_step=True, on_epoch=False, logger=False, batch_size=1)
        for logger in trainer.loggers:
            logger.log_metrics(found, step=step)
        if self.stop_at is not None and step > 0:
            self._judge(found["bleu/forget"], self.stop_at, trainer, step)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> float:
        """Computes the BLEU over all ranks' completions. Collective: every rank has to call it."""
        mine = shard(len(self.examples), trainer)
        forward = trainer.precision_plugin.forward_context()
        with gathered(trainer, pl_module) as policy, forward:
            answers = complete(
                policy, self.tokenizer, [self.examples[i] for i in mine], self.template,
                self.max_new_tokens, self.batch_size, stop_strings=self.stop_strings,
            )  # fmt: skip
        texts = ((said.text, true.text) for said, true in answers)
        pairs = gather(dict(zip(mine, texts, strict=True)), trainer)
        rows = [
            Generation("training", "bleu", number, "", true, said)
            for number, (said, true) in enumerate(pairs)
        ]
        found = bleu_to_target.statistic(rows)
        return float("nan") if found is None else found.value

    def _judge(self, bleu: float, limit: float, trainer: Trainer, step: int) -> None:
        # The limit may come from a file, the BLEU from the same texts: rounding is no difference.
        forgotten = bleu <= limit or math.isclose(bleu, limit, rel_tol=1e-9)
        self.in_a_row = self.in_a_row + 1 if forgotten else 0
        if self.in_a_row < self.patience:
            self.reason = None
            return
        trainer.should_stop = True
        self.reason = (
            f"Forgotten at step {step}: a BLEU of {bleu:.2f} to the true text is not above "
            f"{limit:.2f}, the limit, for {self.in_a_row} evaluation(s) in a row; training ends."
        )
        if trainer.is_global_zero:
            log.info(self.reason)

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason, self.in_a_row = state_dict["reason"], state_dict["in_a_row"]
