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
    "BookCorpusDataModule": "unlearning.data",
    "CausalLMModule": "unlearning.finetune",
    "ConfigError": "unlearning.errors",
    "Example": "unlearning.types",
    "FinetuningDataModule": "unlearning.data",
    "Generation": "unlearning.types",
    "HarmScorer": "unlearning.classifier",
    "JsonlDataModule": "unlearning.data",
    "LOTRDataModule": "unlearning.data",
    "PAPER_TERMS": "unlearning.objective",
    "PKUDataModule": "unlearning.data",
    "PromptSet": "unlearning.types",
    "PromptTemplate": "unlearning.data",
    "ProseDataModule": "unlearning.data",
    "StoryDataModule": "unlearning.data",
    "SyntheticDataModule": "unlearning.data",
    "TokenLosses": "unlearning.losses",
    "TruthfulQADataModule": "unlearning.data",
    "UnlearningDataModule": "unlearning.data",
    "UnlearningModule": "unlearning.module",
    "evaluate": "unlearning.evaluation",
    "generate": "unlearning.generation.generate",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
