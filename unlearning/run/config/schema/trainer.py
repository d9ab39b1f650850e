"""`trainer`: arguments of Lightning's Trainer for every stage that trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import StringConstraints

from unlearning.ranges import Count, Whole
from unlearning.run.config.schema.kinds import Open, Says, Target, Text

Devices = Annotated[
    Literal["auto", -1]
    | Count
    | Annotated[list[Whole], MinLen(1)]
    | Annotated[str, StringConstraints(pattern=r"^\d+(, *\d+)*,?$")],
    Says("a whole number of at least 1, a list of GPUs such as [0, 1], auto or -1 for all"),
]
Precision = Literal[
    "auto", "bf16-auto", "32-true", "32", "16-mixed", "bf16-mixed", "bf16-true", "16-true",
    "64-true", "64", "16", "bf16", "transformer-engine", "transformer-engine-float16", 16, 32, 64,
]  # fmt: skip

INSTEAD = {
    "max_steps": "unlearn.max_steps, finetune.max_steps or model.base.max_steps",
    "max_epochs": "finetune.epochs or unlearn.max_steps",
    "min_steps": "unlearn.max_steps",
    "min_epochs": "finetune.epochs",
    "accumulate_grad_batches": "unlearn.accumulate_grad_batches",
    "gradient_clip_val": "unlearn.gradient_clip_val",
    "logger": "logger=",
    "callbacks": "callbacks.<name>",
    "enable_checkpointing": "callbacks.checkpoint",
    "default_root_dir": "hydra.run.dir",
    "fast_dev_run": "trainer=debug",
    "model_registry": "callbacks.checkpoint",
}
"""Arguments of the Trainer that every stage sets by itself, and where they come from."""


class TrainerSettings(Open):
    """Further arguments are those of `lightning.Trainer`, and are checked with it."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Devices
    num_nodes: Count = 1
    precision: Precision
    strategy: Text | Target
    log_every_n_steps: Whole
    deterministic: bool | Literal["warn"]
    __pydantic_extra__: dict[str, Any]
