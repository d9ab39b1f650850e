"""Writes completions during training to a file, for reading."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from transformers import PreTrainedTokenizerBase

from unlearning.callbacks.prompts import written_prompts
from unlearning.callbacks.shard import gather, shard
from unlearning.callbacks.step import StepCallback
from unlearning.data.template import Template
from unlearning.errors import ConfigError
from unlearning.files.atomic import write_text
from unlearning.fsdp import gathered
from unlearning.types import Example


class SampleGenerations(StepCallback):
    """Appends completions to a file of JSON lines (`step`, `prompt`, `completion`).

    The file belongs to one run: a resumed run removes the samples after the step that it resumes
    from, since it makes them again.

    Weights & Biases gets them as a table and TensorBoard as text, where the trainer logs there.
    All ranks generate; rank 0 writes.

    Args:
        prompts: as text in its template already, or Examples, which `template` writes.
        tokenizer: of the model.
        path: the file; its folder is made.
        every_n_steps: optimizer steps between two samples.
        max_new_tokens: tokens of a completion.
        batch_size: prompts in one generation; None: as many as the free memory holds.
        at_start: sample the untrained model, too.
        template: of Examples; None: the default one.
        stop_strings: texts before which a completion ends.

    Raises:
        ConfigError: there is no prompt; or, before the first step, a file that holds no samples.
    """

    def __init__(
        self,
        prompts: Sequence[str | Example],
        tokenizer: PreTrainedTokenizerBase,
        path: str | Path,
        every_n_steps: int = 100,
        max_new_tokens: int = 48,
        batch_size: int | None = None,
        at_start: bool = True,
        template: Template | None = None,
        stop_strings: Sequence[str] = (),
    ) -> None:
        super().__init__(every_n_steps, at_start)
        if not prompts:
            raise ConfigError("SampleGenerations needs at least one prompt; it got none.")
        self.prompts = written_prompts(prompts, tokenizer, template, stop_strings)
        self.path = Path(path)
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        mine = shard(len(self.prompts), trainer)
        forward = trainer.precision_plugin.forward_context()
        with gathered(trainer, pl_module) as policy, forward:
            completions = self.prompts.complete(policy, mine, self.max_new_tokens, self.batch_size)
        texts = gather(dict(zip(mine, (c.text for c in completions), strict=True)), trainer)
        if trainer.is_global_zero:
            pairs = list(zip(self.prompts.texts, texts, strict=True))
            self._write(step, pairs)
            _show(trainer, step, pairs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and self.path.is_file():
            self._drop_after(trainer.global_step)

    def _drop_after(self, step: int) -> None:
        """Removes lines after the step that a run resumes from (all, for a new run), and partial
        lines."""
        text = self.path.read_text(encoding="utf-8", errors="replace")
        # Not `splitlines`, which ends a line at separators that may stand in a completion, too.
        lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        whole = [line for line in lines if line.endswith("\n")]
        if any(_step(line) is None for line in whole):
            raise ConfigError(
                f"{self.path} holds lines that are no samples, and would be overwritten. Move it "
                "away or give another path."
            )
        kept = [line for line in whole if 0 < step >= (_step(line) or 0)]
        if kept != lines:
            write_text(self.path, "".join(kept))

    def _write(self, step: int, pairs: list[tuple[str, str]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for prompt, completion in pairs:
                line = {"step": step, "prompt": prompt, "completion": completion}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _step(line: str) -> int | None:
    """Returns the step of a line, or None for a line without one."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _show(trainer: Trainer, step: int, pairs: list[tuple[str, str]]) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            rows = [[str(step), prompt, completion] for prompt, completion in pairs]
            logger.log_text("samples", ["step", "prompt", "completion"], rows, step=step)
        elif isinstance(logger, TensorBoardLogger):
            for number, pair in enumerate(pairs):
                # Indented, so that Markdown leaves the model's text as it is.
                text = "\n\n".join("    " + part.replace("\n", "\n    ") for part in pair)
                logger.experiment.add_text(f"samples/{number}", text, step)
