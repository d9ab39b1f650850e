"""KL to the reference on continuations that the policy samples: on-policy distillation.

    L_nor = E_x E_{y ~ policy(.|x)}  1/|y|  sum_t KL(reference(.|x, y_<t) || policy(.|x, y_<t))

(GKD, arXiv 2306.13649, with student data alone, lambda = 1, the forward KL, and no gradient through
the sampling.) The KL is then measured on what the policy says now, where a drift shows first, and
not on texts of somebody else. Retain answers of the data set are not trained on; its prompts are.

The continuations of the next `refresh_every` steps are sampled at once, by the policy as it is
then: a batch of all these prompts is hardly slower than that of one step. In between they are as
many steps old, at most `refresh_every` - 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.layout import Tree
from unlearning.data.token_store import token_counts
from unlearning.errors import ConfigError
from unlearning.generation.generate import generate
from unlearning.generation.sampling import Sampling
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.ranges import Count, Positive, Seed
from unlearning.types import Batch, TokenizedExample

SAMPLED = "sampled"
MAX_NEW_TOKENS = 48
CACHED = (
    "reference.mode=cached keeps the states of known answers, and on-policy ones change with the "
    "policy. Use auto, copy, or adapter_off with LoRA."
)
NO_RETAIN = (
    "No term is on retain answers, which on-policy continuations stand for. Give "
    "objective.retain.weight a value above 0, or take another method."
)
STREAMED = (
    "On-policy continuations need retain prompts that are known beforehand, and the retain set is "
    "streamed. Set data.retain.streaming=false."
)


class OnPolicy(UnlearningModule):
    """Replaces the retain answers of each batch by continuations that the policy samples.

    What is sampled is a function of the policy, the prompt's place in the stream and the seed, so
    that ranks and accumulation change nothing; a checkpoint holds the continuations of the running
    block. Held-out batches keep the answers of their data sets.

    Args:
        model: see `UnlearningModule`, as for all other arguments.
        refresh_every: optimizer steps whose continuations are sampled at once.
        max_new_tokens: of a continuation; one that is cut there has no end token.
        temperature: of the sampling; 1 is the policy's own distribution.
        sample_seed: of all draws.

    Raises:
        ConfigError: for a cached reference, which cannot know these answers; from `setup`, without
            an `UnlearningDataModule`, with a streamed retain set, prompts that leave no room for
            `max_new_tokens`, or weights that are split over ranks.
    """

    def __init__(
        self,
        model: CausalLM | str,
        refresh_every: Count = 8,
        max_new_tokens: Count = MAX_NEW_TOKENS,
        temperature: Positive = 1.0,
        sample_seed: Seed = 0,
        **settings: Any,
    ) -> None:
        if settings.get("reference") == "cached":
            raise ConfigError(CACHED)
        if min(refresh_every, max_new_tokens) < 1:
            raise ConfigError(
                f"refresh_every={refresh_every} and max_new_tokens={max_new_tokens} must be at "
                "least 1."
            )
        super().__init__(model, **settings)
        if "retain" not in self.objective.roles:
            raise ConfigError(NO_RETAIN)
        self.sampling = Sampling(temperature, seed=sample_seed)
        self.refresh_every, self.max_new_tokens = refresh_every, max_new_tokens
        # By number of the batch in this rank's stream.
        self._sampled: dict[int, list[tuple[int, ...]]] = {}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self._sampled = {}  # those of an earlier training; a resumed one's are loaded later
            self._check(self._data())
        super().setup(stage)

    def build_reference(
        self, data: UnlearningDataModule | None = None, sharded: bool = False
    ) -> None:
        super().build_reference(None, sharded)  # there is nothing to cache for

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        return super().training_step(self.resampled(batch), batch_idx)

    def resampled(self, batch: Batch) -> Batch:
        """Returns the batch with sampled continuations as its retain answers."""
        data = self._data()
        if batch.index not in self._sampled:
            self._sample_from(data, batch.index)
        trees = data.trees_at(batch.index)
        others = [tree for tree in trees if not _is_retain(tree)]
        retain = [
            Tree(tree.prompt_ids, (replace(tree.answers[0], ids=ids),))
            for tree, ids in zip(
                filter(_is_retain, trees), self._sampled[batch.index], strict=True
            )
        ]  # fmt: skip
        made = data.lay_out([*others, *retain], batch.index)
        return made.to(batch.rows.input_ids.device)

    def _sample_from(self, data: UnlearningDataModule, first: int) -> None:
        """Samples for the batches from this one to the end of its block."""
        rank, world, accumulated = data.world()
        length = self.refresh_every * accumulated
        end = first - first % length + length
        if self.trainer.max_steps > 0:
            end = min(end, max(first + 1, self.trainer.max_steps * accumulated))
        size, block = data.retain_batch_size, range(first, end)
        prompts = [t.prompt_ids for n in block for t in data.trees_at(n) if _is_retain(t)]
        places = tuple((n * world + rank) * size + i for n in block for i in range(size))
        said = generate(
            self.policy, data.tokenizer, prompts, self.max_new_tokens,
            end_tokens=data.template.end_tokens(data.tokenizer),
            sampling=replace(self.sampling, numbers=places),
        )  # fmt: skip
        ids = [completion.ids for completion in said]
        self._sampled = {n: ids[i * size : (i + 1) * size] for i, n in enumerate(block)}

    def _data(self) -> UnlearningDataModule:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, UnlearningDataModule):
            raise ConfigError(
                "On-policy continuations are of an UnlearningDataModule's retain prompts. Give "
                "one to Trainer.fit."
            )
        return data

    @classmethod
    def check_split(cls, settings: Mapping[str, Any]) -> None:
        raise ConfigError(
            "On-policy continuations are sampled by the whole policy on every rank, and here its "
            "weights are split over the ranks. Take trainer=ddp."
        )

    def _check(self, data: UnlearningDataModule) -> None:
        data.setup("fit")
        if "retain" not in data.sequences:
            raise ConfigError(STREAMED)
        check_room(data.sequences["retain"], self.max_new_tokens, data.max_length)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        every_rank: list[Any] = [self._sampled]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            every_rank = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(every_rank, self._sampled)
        checkpoint[SAMPLED] = every_rank

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        every_rank = checkpoint.get(SAMPLED)
        if every_rank and self._trainer is not None:
            self._sampled = every_rank[self.trainer.global_rank]


def check_room(retain: Sequence[TokenizedExample], max_new_tokens: int, max_length: int) -> None:
    """Checks that every retain prompt leaves room for a continuation.

    Raises:
        ConfigError: one does not.
    """
    longest = int(token_counts(retain)[0].max())
    if longest + max_new_tokens > max_length:
        raise ConfigError(
            f"The longest retain prompt has {longest} tokens and max_new_tokens={max_new_tokens}, "
            f"together more than max_length={max_length}. Lower method.max_new_tokens, raise "
            "data.max_length, or remove the prompt."
        )


def _is_retain(tree: Tree) -> bool:
    return tree.answers[0].role == "retain"
