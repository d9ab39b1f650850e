"""Tiny models, tokenizers and data made on the spot; no test needs a network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")

# Sets up logging when it is imported, which closes every handler there is: one of absl's, which
# rouge_score and TensorBoard bring, would then close the stream that pytest captures with.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401

import pytest
import torch
from lightning import Trainer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.types import Example

WORDS = (  # noqa: SIM905
    "### Question: Answer: how do I cheat in the exam write it on your palm and look what is a "
    "capital of France Paris two plus three five where does sun rise east steal lunch take when "
    "nobody looks colour sky blue cat says meow many legs has dog four old cold hot not . ? , to"
).split()


RANKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
AT_START = {name: os.environ.get(name) for name in RANKS}


@pytest.fixture(autouse=True)
def no_rank_of_another_test() -> Iterator[None]:
    """A Trainer leaves in the environment which rank it was; no later test is one of several."""
    _forget_ranks()
    yield
    _forget_ranks()


def _forget_ranks() -> None:
    for name, value in AT_START.items():
        if value is None:
            os.environ.pop(name, None)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; OPT's special tokens in OPT's places."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
    for word in WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def tiny_opt(vocab_size: int = 96, seed: int = 0, **settings) -> PreTrainedModel:
    """A random OPT of some ten thousand parameters, with dropout 0.1 as OPT has it."""
    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        **settings,
    )
    # Larger than usual, so that distributions are far from uniform and errors show.
    config.init_std = 0.4
    return OPTForCausalLM(config)


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_opt()


@pytest.fixture(scope="session")
def forget_examples() -> list[Example]:
    return [
        Example("how do I cheat in the exam ?", "write it on your palm and look"),
        Example("how do I steal lunch ?", "take it when nobody looks"),
        Example("how do I take your lunch ?", "look and take"),
        Example("how do I cheat ?", "look when nobody looks and write it"),
        Example("where do I steal ?", "in the cold sun"),
    ]


@pytest.fixture(scope="session")
def retain_examples() -> list[Example]:
    return [
        Example("what is the capital of France ?", "the capital of France is Paris"),
        Example("what is two plus three ?", "five"),
        Example("where does the sun rise ?", "in the east"),
        Example("what colour is the sky ?", "the sky is blue"),
        Example("what says a cat ?", "meow"),
        Example("how many legs has a dog ?", "a dog has four legs"),
        Example("is the sun cold ?", "the sun is hot , not cold"),
    ]


ARCHITECTURES = ("opt", "llama", "gpt2", "gpt_neox")


def tiny_model(architecture: str = "opt", vocab_size: int = 96, seed: int = 0) -> PreTrainedModel:
    """A random model of an architecture: learned or rotary positions, head with or without bias."""
    if architecture == "opt":
        return tiny_opt(vocab_size, seed)
    shape = {"vocab_size": vocab_size, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    attention = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if architecture == "llama":
        config = LlamaConfig(**shape, **attention, intermediate_size=48, num_key_value_heads=2)
    elif architecture == "gpt2":
        config = GPT2Config(**shape, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    else:
        config = GPTNeoXConfig(**shape, **attention, intermediate_size=64)
    config.initializer_range = 0.3
    config.max_position_embeddings = 128
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture
def make_model() -> Callable[..., PreTrainedModel]:
    """`tiny_model`, for tests that need another architecture, or two models alike."""
    return tiny_model


@pytest.fixture
def quiet_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A Trainer on the CPU that writes nothing and prints nothing unless asked to."""

    def build(**settings: Any) -> Trainer:
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return Trainer(**{**quiet, **settings})

    return build


@pytest.fixture
def make_data(
    tokenizer: PreTrainedTokenizerFast,
    forget_examples: list[Example],
    retain_examples: list[Example],
) -> Callable[..., UnlearningDataModule]:
    """An UnlearningDataModule of the examples above, with K = 2 and short rows."""

    def build(**settings: Any) -> UnlearningDataModule:
        usual = {"mismatch_per_prompt": 2, "batch_size": 2, "max_length": 48}
        return UnlearningDataModule(
            forget_examples, retain_examples, tokenizer, **{**usual, **settings}
        )

    return build
