"""The whole configuration: of a run that unlearns, and of one that evaluates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from unlearning.ranges import Count, NotNegative, Seed
from unlearning.run.config.schema.callbacks import Callbacks
from unlearning.run.config.schema.classifier import Classifier
from unlearning.run.config.schema.data import Data, EvaluationData
from unlearning.run.config.schema.evaluation import Evaluation
from unlearning.run.config.schema.finetune import Finetune
from unlearning.run.config.schema.kinds import (
    Closed,
    FolderName,
    Label,
    ModelName,
    Open,
    Path,
    Says,
    Text,
    Word,
)
from unlearning.run.config.schema.logger import Loggers
from unlearning.run.config.schema.model import Model
from unlearning.run.config.schema.objective import Method, Term
from unlearning.run.config.schema.trainer import TrainerSettings
from unlearning.run.config.schema.unlearn import Unlearn


class Sweep(Closed):
    name: Word | None
    job: Text | None  # empty where nothing varies
    resume: Path | None
    objectives: list[Word]


class Debug(Closed):
    steps: Count
    prompts: Count


class Reference(Closed):
    of: Literal["finetuned", "base"]
    mode: Literal["auto", "adapter_off", "cached", "copy"]
    dtype: Literal["float32", "bfloat16"]


class Sources(Open):
    """Where records of an experiment come from; each key is a hub id, a file or a folder."""

    folder: Path = ""
    jigsaw_labels: list[Word] | None = None
    __pydantic_extra__: dict[str, Path]


class Run(Open):
    """What all runs have. Further keys are names of the user's own, for interpolations."""

    task: Literal["unlearn", "evaluate"]
    compare_with: ModelName | None
    name: FolderName
    description: Text
    seed: Seed
    validate_: bool = Field(alias="validate")
    progress_seconds: NotNegative = 30
    sweep: Sweep
    debug: Debug | None
    cache_dir: Path
    sources: Sources | None = None
    model: Model
    classifier: Classifier
    evaluation: Evaluation
    trainer: TrainerSettings
    logger: Annotated[Loggers, Says("a mapping of loggers: choose one of conf/logger, or none")]
    __pydantic_extra__: dict[str, Any]


class EvaluationRun(Run):
    """What is left of the configuration for `task=evaluate`."""

    data: EvaluationData


class UnlearningRun(Run):
    reference: Reference
    oracle: bool | ModelName | None
    data: Data
    finetune: Finetune | None
    method: Method
    objective: dict[Label, Term]
    unlearn: Unlearn
    callbacks: Callbacks
