"""`unlearn`: the training that unlearns."""

from __future__ import annotations

from typing import Literal

from unlearning.ranges import Count, Positive, Whole
from unlearning.run.config.schema.finetune import Options, Schedule
from unlearning.run.config.schema.kinds import Closed, Word


class Unlearn(Closed):
    max_steps: Count
    batch_size: Count
    retain_batch_size: Count | None
    accumulate_grad_batches: Count
    optimizer: Word
    learning_rate: Positive
    optimizer_options: Options
    schedule: Schedule
    warmup_steps: Whole
    gradient_clip_val: Positive | None
    reduction: Literal["mean", "sum"]
    keep_dropout: bool
    gradient_checkpointing: bool
    chunk_size: Count | None = None
