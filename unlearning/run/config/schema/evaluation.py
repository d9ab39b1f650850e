"""`evaluation`: prompt sets, their metrics, and how answers are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Gt, Le, MinLen

from unlearning.ranges import Count
from unlearning.run.config.schema.data import ChatSettings, MaxLength, Template
from unlearning.run.config.schema.kinds import (
    Closed,
    ImportPath,
    Label,
    ModelName,
    Path,
    Says,
    Split,
    Target,
    Text,
)

StopString = Annotated[str, MinLen(1), Says("text before which an answer ends")]
RougeThreshold = Annotated[float, Gt(0), Le(1)]


Precision = Literal["32-true", "bf16-true", "bf16-auto"]


class Metric(Closed):
    """A declared metric by its import path, with what is changed of the declaration."""

    path: ImportPath
    name: Text = ""
    label: Text = ""
    direction: Literal["lower", "higher", "near zero"] | None = None
    interval: ImportPath = ""
    options: dict[str, Any] | None = None


MetricNode = ImportPath | Metric | Target


class PromptSet(Closed):
    source: Text | Target
    split: Split | None = "all"
    part: Literal["validation", "test"] | None = None
    limit: Count | None = None
    kind: Literal["harmful", "copyright", "retain", "related", ""] | None = None
    metrics: list[MetricNode] | None = None
    template: Template | ChatSettings | Target | None = None
    max_length: MaxLength | None = None


class Aggregate(Closed):
    """A figure of several prompt sets."""

    metric: MetricNode
    of: Annotated[list[Text], MinLen(1)]
    label: Text | None = None
    against: Path | None = None
    stage: Text | None = None


class Evaluation(Closed):
    max_new_tokens: Count
    stop: StopString | list[StopString] | None = None
    batch_size: Count | None
    precision: Precision = "32-true"
    rouge_threshold: RougeThreshold
    resamples: Count
    embedding: ModelName | None
    bleurt: ModelName | None
    prompt_sets: dict[Label, PromptSet | None]
    aggregates: dict[Label, Aggregate] | None = None
