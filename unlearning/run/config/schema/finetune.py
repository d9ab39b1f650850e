"""`finetune`, and the adapter that it and `model.lora` share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from unlearning.ranges import LARGEST, BelowOne, Count, NotNegative, Positive, Seed, Whole
from unlearning.run.config.schema.kinds import Closed, Path, Split, Steps, Target, Word

Schedule = Literal["linear", "constant", "cosine"]
Options = dict[str, Any]
TwoTokens = Annotated[int, Ge(2), Le(LARGEST)]


class Adapter(Closed):
    """Arguments of `add_adapter`, LoRA's and AdaLoRA's."""

    kind: Literal["lora", "adalora"] = "lora"
    r: Count = 16
    alpha: Positive = 32
    dropout: BelowOne = 0.05
    target_modules: Word | Annotated[list[Word], MinLen(1)] | None = None
    initial_r: Count | None = None
    warmup_fraction: BelowOne = 0.1
    final_fraction: BelowOne = 0.3
    interval: Count = 1
    orthogonality: NotNegative = 0.5
    total_steps: Count = 10_000


class Require(Closed):
    nll_ratio: Annotated[float, Gt(0), Le(1)] | None = None
    bleu: Annotated[float, Ge(0), Le(100)] | None = None


class Finetune(Closed):
    sets: dict[str, Split | None]
    adapter: Adapter | None
    load: Path | None
    eight_bit: bool
    context_length: TwoTokens
    batch_size: Count
    accumulate_grad_batches: Count
    epochs: Count
    max_steps: Steps
    packing: bool
    seed: Seed
    optimizer: Word
    learning_rate: Positive
    optimizer_options: Options
    schedule: Schedule
    warmup_steps: Whole
    gradient_clip_val: Positive | None
    gradient_checkpointing: bool
    require: Require | None = None
    callbacks: dict[str, Target | None] | None = None
