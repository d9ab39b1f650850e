"""Trains a base model from scratch, with a tokenizer of its own and OPT's architecture."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from unlearning.data.pretraining import PretrainingDataModule
from unlearning.finetune import CausalLMModule
from unlearning.models.load import save_model

SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE with OPT's special tokens in OPT's places; texts begin with `<s>`."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)


def new_opt(tokenizer: PreTrainedTokenizerFast, seed: int, **architecture: Any) -> OPTForCausalLM:
    """Returns a randomly initialised OPT for a tokenizer, without dropout.

    Args:
        architecture: fields of `OPTConfig`: hidden_size, num_hidden_layers, ...
    """
    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        word_embed_proj_dim=architecture["hidden_size"],
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dropout=0.0,
        **architecture,
    )
    return OPTForCausalLM(config)


def train_base(
    data: PretrainingDataModule,
    folder: Path,
    *,
    architecture: Mapping[str, Any],
    vocab_size: int,
    training: Mapping[str, Any],
    trainer: Trainer,
    seed: int = 0,
) -> dict[str, float]:
    """Trains tokenizer and model, and saves both as a Hugging Face folder.

    Args:
        architecture: fields of `OPTConfig`.
        vocab_size: of the tokenizer.
        training: learning rate, schedule and the like, of `CausalLMModule`.
        trainer: decides steps, device and precision.

    Returns:
        The last logged losses, in nats a token.
    """
    tokenizer = train_tokenizer(data.texts(), vocab_size)
    data.tokenizer = tokenizer
    model = new_opt(tokenizer, seed, **architecture)
    module = CausalLMModule(model, **training)
    with warnings.catch_warnings():
        # Pairs alone leave nothing to validate on: the base model shall know them all.
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")  # collating is cheap
        trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:
        save_model(module.policy, tokenizer, folder)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
