"""What a model is fine-tuned on: splits of the data sets, as tokens."""

from __future__ import annotations

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from unlearning.data.examples import ExampleDataModule
from unlearning.data.finetuning import tokenize_source
from unlearning.data.split import SPLITS, Split
from unlearning.data.tokenize import Tokenized
from unlearning.run.config.build import Data, build_template

Sets = dict[str, tuple[Split, ...]]
"""By data set, the splits that are trained on."""


def finetuned_sets(config: DictConfig) -> Sets:
    """Returns the splits that `finetune.sets` names."""
    return {
        str(name): SPLITS if split == "all" else (split,)
        for name, split in config.finetune.sets.items()
        if split is not None
    }


def existing(data: Data, name: str) -> ExampleDataModule:
    """Returns a data set that the configuration was checked to have."""
    module = data[name]
    assert module is not None  # check_finetune() saw to it
    return module


def tokenized_sets(
    config: DictConfig, data: Data, sets: Sets, tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[Tokenized]]:
    """Tokenises each split of each data set."""
    template, length = build_template(config), config.finetune.context_length
    return {
        name: [
            tokenize_source(
                existing(data, name), tokenizer, length, template, split, config.cache_dir
            )
            for split in splits
        ]
        for name, splits in sets.items()
    }
