"""Machine unlearning for causal language models (arXiv 2405.15152).

    from unlearning import UnlearningDataModule, UnlearningModule

Names are imported when they are first used, so that `unlearn --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from unlearning.version import __version__

_HOME = {
    "Batch": "unlearning.types",
    "BatchValues": "unlearning.training.batch_loss",
    "BookCorpusDataModule": "unlearning.data",
    "CausalLMModule": "unlearning.finetune",
    "ConfigError": "unlearning.errors",
    "EvaluationSettings": "unlearning.evaluation",
    "Example": "unlearning.types",
    "ExampleDataModule": "unlearning.data",
    "FinetuningDataModule": "unlearning.data",
    "Generation": "unlearning.types",
    "HarmScorer": "unlearning.classifier",
    "JsonlDataModule": "unlearning.data",
    "LOTRDataModule": "unlearning.data",
    "Objective": "unlearning.objective",
    "PAPER_TERMS": "unlearning.objective",
    "PKUDataModule": "unlearning.data",
    "PretrainingDataModule": "unlearning.data",
    "PromptSet": "unlearning.types",
    "PromptTemplate": "unlearning.data",
    "ProseDataModule": "unlearning.data",
    "StepCallback": "unlearning.callbacks",
    "StepRule": "unlearning.training.step_rule",
    "StoryDataModule": "unlearning.data",
    "SyntheticDataModule": "unlearning.data",
    "TokenLosses": "unlearning.losses",
    "TruthfulQADataModule": "unlearning.data",
    "UnlearningDataModule": "unlearning.data",
    "UnlearningModule": "unlearning.module",
    "WeightEdit": "unlearning.methods.weight_edit",
    "add_adapter": "unlearning.models.adapter",
    "build_reference": "unlearning.reference",
    "compare": "unlearning.metrics.comparison",
    "evaluate": "unlearning.evaluation",
    "generate": "unlearning.generation.generate",
    "load_model": "unlearning.models.load",
    "load_tokenizer": "unlearning.models.load",
    "merge_adapter": "unlearning.models.adapter",
    "needs": "unlearning.losses",
    "read_generations": "unlearning.metrics.generations",
    "save_model": "unlearning.models.load",
    "separable_in": "unlearning.losses",
    "token_quantity": "unlearning.quantities",
    "write_generations": "unlearning.metrics.generations",
    "write_report": "unlearning.report",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
