"""`model`: the model that a run starts from."""

from __future__ import annotations

from typing import Any

from unlearning.ranges import BelowOne, Count, Positive, Seed, Whole
from unlearning.run.config.schema.finetune import Adapter, Options, Schedule, TwoTokens
from unlearning.run.config.schema.kinds import Closed, GGUFFile, ModelName, Open, Target, Word
from unlearning.run.config.schema.trainer import Precision


class Architecture(Open):
    """Fields of `OPTConfig`."""

    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    ffn_dim: Count
    max_position_embeddings: TwoTokens
    attention_dropout: BelowOne = 0.0
    layerdrop: BelowOne = 0.0
    __pydantic_extra__: dict[str, Any]


class Training(Closed):
    """Arguments of `CausalLMModule`."""

    optimizer: Word = "adamw"
    learning_rate: Positive
    optimizer_options: Options | None = None
    schedule: Schedule
    warmup_steps: Whole
    gradient_checkpointing: bool = False
    chunk_size: Count | None = None


class Recipe(Closed):
    """A model trained from scratch."""

    data: Target
    vocab_size: Count
    architecture: Architecture
    max_steps: Count
    seed: Seed
    precision: Precision
    training: Training


class Model(Closed):
    name_or_path: ModelName | None
    gguf: GGUFFile | None = None
    tokenizer: ModelName | None
    revision: Word | None
    base: ModelName | Recipe | None
    lora: Adapter | None
