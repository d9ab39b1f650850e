"""Loads a policy and its tokenizer, in full precision or in 8 bits, and saves them."""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from unlearning.errors import ConfigError
from unlearning.files import atomic_write
from unlearning.loading import load_pretrained
from unlearning.loading import load_tokenizer as load_any_tokenizer
from unlearning.models.decoder import (
    CausalLM,
    context_length,
    embedded_tokens,
    is_eight_bit,
    unwrap,
)
from unlearning.models.fingerprint import base_fingerprint
from unlearning.models.gguf import check_gguf, is_gguf, load_gguf, load_gguf_tokenizer
from unlearning.weight_files import check_weight_files, is_absent

CAUSAL = "AutoModelForCausalLM"
BASE_FILE = "base_model.json"
"""Beside a saved adapter: on which weights it was trained."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
PADDING_OF_VOCABULARY = 1024, 0.05
"""So many more rows than the tokenizer has tokens may be embedded, or this share of the rows:
vocabularies are padded, and ids kept for later (gpt-oss: 1,069 of 201,088; DeepSeek-V2: 2,385 of
102,400). A tokenizer of another family is off by a quarter and more."""


def check_model_folder(name_or_path: str | Path) -> None:
    """Checks that a local folder holds a model with whole weight files, or that a GGUF file is
    whole; no weight is read.

    Raises:
        ConfigError: it is a path that does not exist, or a folder without config or weights, or
            with damaged ones.
    """
    if is_gguf(name_or_path):
        check_gguf(name_or_path)
        return
    folder = Path(name_or_path)
    if is_absent(name_or_path):
        return
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} has no config.json, so it is no Hugging Face model folder.")
    check_weight_files(folder)


def check_local_model(name_or_path: str | Path) -> PreTrainedModel | None:
    """Checks that a local folder holds every weight of its model, by names and shapes alone.

    Returns:
        The model without its weights, on the device `meta`; None for a hub id.

    Raises:
        ConfigError: as `load_model`, for a folder.
    """
    check_model_folder(name_or_path)
    if not Path(name_or_path).is_dir():
        return None  # a GGUF file, too
    model: PreTrainedModel = load_pretrained(CAUSAL, name_or_path, device_map="meta")
    return model


def load_model(
    name_or_path: str | Path,
    dtype: torch.dtype = torch.float32,
    eight_bit: bool = False,
    keep_dropout: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """Loads a causal language model by hub id, folder or GGUF file, in train mode, with dropout off
    unless it is to be kept.

    In fp32 by default whatever the stored dtype is: OPT is stored in fp16, in which AdamW diverges,
    and at the paper's learning rate pure bf16 rounds most updates away. Use `bf16-mixed` for speed.

    Args:
        eight_bit: its linear layers in 8 bits (arXiv 2208.07339), on this process's GPU. Such a
            model is trained with an adapter only.
        keep_dropout: leave the model's own dropout rates alone.

    Raises:
        ConfigError: no model is there; its files lack weights, hold other ones or are damaged; it
            would run code of its own; or 8 bits cannot be had here.
    """
    check_model_folder(name_or_path)
    if is_gguf(name_or_path):
        if eight_bit:
            raise ConfigError(
                f"{name_or_path} is a GGUF file, whose weights are loaded in full. Save it as a "
                "folder with save_model, and load that in 8 bits."
            )
        model = load_gguf(name_or_path, dtype)
    else:
        if eight_bit:
            check_eight_bit()
            device = int(os.environ.get("LOCAL_RANK", "0"))  # a process is started for each GPU
            quantised = BitsAndBytesConfig(load_in_8bit=True)
            options = {"quantization_config": quantised, "device_map": {"": device}, **options}
        model = load_pretrained(CAUSAL, name_or_path, dtype=dtype, **options)
    if not keep_dropout:
        disable_dropout(model)
    return model.train()  # from_pretrained returns eval mode, which Lightning would keep


def check_eight_bit() -> None:
    """Checks that a model can be loaded in 8 bits, before anything is loaded.

    Raises:
        ConfigError: naming what is missing: the GPU, bitsandbytes, or both.
    """
    lacking = []
    if not torch.cuda.is_available():
        lacking.append("a GPU (torch finds none)")
    if importlib.util.find_spec("bitsandbytes") is None:
        lacking.append("bitsandbytes (pip install 'unlearning[eightbit]')")
    if lacking:
        raise ConfigError(
            f"An 8-bit base model needs {' and '.join(lacking)}. Without, set eight_bit=false: "
            "the model is then loaded in full."
        )


def full_precision(model: CausalLM) -> PreTrainedModel:
    """Reloads the model that an 8-bit model was made from, in fp32 and without an adapter."""
    base = unwrap(model)
    commit = getattr(base.config, "_commit_hash", None)  # None for a folder
    return load_model(str(base.name_or_path), **({} if commit is None else {"revision": commit}))


def load_tokenizer(name_or_path: str | Path, **options: Any) -> Tokenizer:
    """Loads the tokenizer of a model folder, GGUF file or hub id.

    Raises:
        ConfigError: there is none, or it would run code of its own.
    """
    if is_gguf(name_or_path):
        of_file: Tokenizer = load_gguf_tokenizer(name_or_path)
        return of_file
    found: Tokenizer = load_any_tokenizer(name_or_path, **options)
    return found


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a local folder holds a tokenizer."""
    return any((Path(folder).expanduser() / name).is_file() for name in TOKENIZER_FILES)


def check_vocabulary(model: CausalLM, tokenizer: Tokenizer) -> None:
    """Checks that a tokenizer can be this model's.

    Raises:
        ConfigError: it has ids that the model has no embedding for, or far fewer tokens.
    """
    rows, tokens = embedded_tokens(model), len(tokenizer)
    few, share = PADDING_OF_VOCABULARY
    largest = max(tokenizer.get_vocab().values(), default=-1)  # ids may have gaps
    if max(tokens, largest + 1) > rows or rows - tokens > max(few, share * rows):
        raise ConfigError(
            f"The tokenizer has {tokens} tokens and the model embeds {rows}: they do not belong "
            "together. Use the tokenizer that was saved with the model."
        )


def check_context(model: CausalLM, max_length: int) -> None:
    """Checks that a model has positions for so many tokens.

    Raises:
        ConfigError: `max_length` is above the context.
    """
    context = context_length(model)
    if context is not None and max_length > context:
        raise ConfigError(f"max_length={max_length} is above the model's context, {context}.")


def disable_dropout(model: nn.Module) -> None:
    """Sets dropout to 0, in modules and in the float attributes some models keep beside them.

    With dropout the KL to the reference is above 0 before the first step, and the reference
    a moving target; OPT and others come with 0.1. An adapter keeps its own, which at the first
    step changes nothing, since a fresh adapter adds nothing.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in path:
            module.p = 0.0
        if any("jitter" in name for name in vars(module)):
            module.training = False  # a router that draws experts, or noise, in train mode
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def save_model(
    model: CausalLM, tokenizer: Tokenizer | None, folder: str | Path, card: str = ""
) -> Path:
    """Saves weights (an adapter alone, where there is one), tokenizer and model card.

    Written aside and renamed, so that a folder of this name is whole or absent. Beside an adapter
    stands which weights it was trained on; `load_adapter` reads it.

    Raises:
        ConfigError: the folder exists; nothing finished is ever overwritten.
    """
    folder = Path(folder)
    if folder.exists():
        raise ConfigError(f"{folder} exists and is not overwritten; choose another folder.")
    with atomic_write(folder) as aside:
        if isinstance(model, PeftModel):
            with quiet_about_ranks():
                # No adapter of ours touches embeddings, and PEFT would ask a hub if they changed.
                model.save_pretrained(str(aside), save_embedding_layers=False)
            (aside / BASE_FILE).write_text(json.dumps(describe_base(model)), encoding="utf-8")
        else:
            model.save_pretrained(str(aside))
        if tokenizer is not None:
            tokenizer.save_pretrained(aside)
        if card:
            (aside / "README.md").write_text(card, encoding="utf-8")
    return folder


@contextmanager
def quiet_about_ranks() -> Iterator[None]:
    """Suppresses two false alarms of PEFT about its own AdaLoRA: a layer left without ranks
    looks like an incomplete shard to it, and a rank is stored by its weight's name, not its
    layer's. The ranks of fused experts are those of parameters, where it looks for modules."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tensor.s. have invalid shape")
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match")
        yield


def describe_base(model: CausalLM) -> dict[str, str]:
    """Returns name and fingerprint of the model under the adapter, in full precision."""
    full = full_precision(model) if is_eight_bit(model) else model
    return {"name": str(unwrap(model).name_or_path), "fingerprint": base_fingerprint(full)}
