"""`classifier`: the judge of harm."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen

from unlearning.ranges import BelowOne, Count, InnerShare, NotNegative, Positive, Seed, Whole
from unlearning.run.config.schema.kinds import Closed, ModelName, Steps, Target, Word


class Tiny(Closed):
    vocab_size: Count
    hidden_size: Count
    num_layers: Count
    max_length: Count
    num_heads: Count = 4
    intermediate_size: Count = 256
    dropout: BelowOne = 0.1
    tokenizer: Target | None


class Training(Closed):
    data: Target
    lr: Positive
    weight_decay: NotNegative
    max_epochs: Steps
    max_steps: Steps
    warmup_steps: Whole
    gradient_clip_val: Positive | None


class Classifier(Closed):
    model: ModelName | None
    tiny: Tiny | None
    train: Training | None
    seed: Seed
    threshold: InnerShare
    labels: Annotated[list[Word | Whole], MinLen(1)] | None
    batch_size: Count
    max_length: Count
