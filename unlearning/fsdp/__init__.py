"""Weights, gradients and optimizer state sharded over the ranks (FSDP, arXiv 2304.11277).

For models whose optimizer state does not fit on one device: each rank keeps a shard of everything,
and gathers the weights of a layer just before it computes with them. The losses, checkpoints and
saved models are those of one process.

    Trainer(strategy=ShardedStrategy(), devices=4, ...)
"""

from unlearning.fsdp.checks import check_sharded, is_sharded
from unlearning.fsdp.strategy import ShardedStrategy
from unlearning.fsdp.whole import gathered, whole_policy

__all__ = ["ShardedStrategy", "check_sharded", "gathered", "is_sharded", "whole_policy"]
