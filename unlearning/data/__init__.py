"""Data sets as LightningDataModules, and the one that joins a forget and a retain set."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BookCorpusDataModule": "unlearning.data.bookcorpus",
    "ChatTemplate": "unlearning.data.chat_template",
    "ExampleDataModule": "unlearning.data.examples",
    "FinetuningDataModule": "unlearning.data.finetuning",
    "HellaSwagDataModule": "unlearning.data.hellaswag",
    "JoinedDataModule": "unlearning.data.joined",
    "JsonlDataModule": "unlearning.data.jsonl",
    "LOTRDataModule": "unlearning.data.book.datamodule",
    "MMLUDataModule": "unlearning.data.mmlu",
    "PKUDataModule": "unlearning.data.pku",
    "PretrainingDataModule": "unlearning.data.pretraining",
    "PromptTemplate": "unlearning.data.template",
    "PromptsDataModule": "unlearning.data.prompts",
    "ProseDataModule": "unlearning.data.synthetic.books",
    "StoryDataModule": "unlearning.data.synthetic.books",
    "SyntheticDataModule": "unlearning.data.synthetic.datamodule",
    "TruthfulQADataModule": "unlearning.data.truthfulqa",
    "UnlearningDataModule": "unlearning.data.datamodule",
    "XSTestDataModule": "unlearning.data.prompts",
    "check_disjoint": "unlearning.data.overlap",
    "split_by_prompt": "unlearning.data.split",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): the template or the overlap check alone need neither torch nor Lightning.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
