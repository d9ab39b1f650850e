"""Random token sequences of realistic lengths, and random models of OPT's architecture.

Nothing is downloaded: what a step costs depends on lengths and shapes, not on what was learned.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.layout import Layout
from unlearning.data.pairs import ListedPairs, MismatchAnswers, NumberedSequence
from unlearning.data.stream import ShuffledOrder
from unlearning.types import Example, TokenizedExample

VOCABULARY = 50_272
"""OPT's, padded as in its checkpoints."""


@dataclass(frozen=True)
class Lengths:
    """Tokens, from and to, drawn uniformly."""

    prompt: tuple[int, int] = (10, 40)
    forget: tuple[int, int] = (30, 150)
    mismatch: tuple[int, int] = (5, 25)
    retain: tuple[int, int] = (20, 60)

    def times(self, factor: float) -> Lengths:
        return Lengths(*(tuple(round(n * factor) for n in pair) for pair in vars(self).values()))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Shape:
    """A model of OPT's architecture."""

    width: int
    layers: int
    vocabulary: int = VOCABULARY

    def model(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> OPTForCausalLM:
        """The same weights every time; dropout off, as the module has it."""
        config = OPTConfig(
            vocab_size=self.vocabulary, hidden_size=self.width, num_hidden_layers=self.layers,
            ffn_dim=4 * self.width, num_attention_heads=self.width // 64,
            word_embed_proj_dim=self.width, max_position_embeddings=2048, dropout=0.0,
            attention_dropout=0.0, layerdrop=0.0, pad_token_id=1, bos_token_id=2, eos_token_id=2,
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device(device):
            return OPTForCausalLM(config).to(dtype)


class RandomData(UnlearningDataModule):
    """An `UnlearningDataModule` whose sequences are drawn rather than read."""

    def __init__(
        self,
        batch_size: int,
        mismatch_per_prompt: int = 5,
        layout: Layout = "tree",
        lengths: Lengths | None = None,
        vocabulary: int = VOCABULARY,
        examples: int = 256,
        seed: int = 0,
    ) -> None:
        nothing: list[Example] = []
        super().__init__(
            nothing, nothing, _tokenizer(vocabulary), batch_size=batch_size, layout=layout,
            mismatch_per_prompt=mismatch_per_prompt, max_length=2048, seed=seed,
        )  # fmt: skip
        self.lengths, self.vocabulary, self.examples = lengths or Lengths(), vocabulary, examples

    def setup(self, stage: str | None = None) -> None:
        if self.sequences:
            return
        draw, sizes = random.Random(self.seed), self.lengths

        def ids(length: tuple[int, int]) -> tuple[int, ...]:
            return tuple(draw.choices(range(4, self.vocabulary), k=draw.randint(*length)))

        for name, length in (("forget", sizes.forget), ("retain", sizes.retain)):
            self.sequences[name] = [  # type: ignore[index]
                TokenizedExample(ids(sizes.prompt), ids(length)) for _ in range(self.examples)
            ]
        mismatches = [TokenizedExample((), ids(sizes.mismatch)) for _ in range(self.examples)]
        self.order = ShuffledOrder(self.examples, "forget", self.seed)
        order = ShuffledOrder(self.examples, "retain", self.seed)
        self.pairs = ListedPairs(self.sequences["retain"], order)
        self.mismatches = RandomMismatches(mismatches, self.mismatch_per_prompt)


class RandomMismatches(MismatchAnswers):
    """Mismatch answers of lengths of their own."""

    def __init__(self, answers: list[TokenizedExample], k: int) -> None:
        self.answers, self.k = answers, k

    def draw(self, forget: int, epoch: int) -> list[NumberedSequence]:
        numbers = random.Random(f"{epoch}/{forget}").sample(range(len(self.answers)), self.k)
        return [(n, self.answers[n]) for n in numbers]


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words |= {f"w{n}": n for n in range(4, vocabulary)}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
