"""Atomic, checksummed checkpoints, and which of them are kept."""

from unlearning.checkpoints.folder import (
    BEST,
    by_step,
    check_kept,
    checkpoint_path,
    clean,
    mark_best,
    newest_whole,
    prune,
    remove_partial,
    save,
)
from unlearning.checkpoints.whole import WholeCheckpointIO, problem, write_sums, write_whole

__all__ = [
    "BEST",
    "WholeCheckpointIO",
    "by_step",
    "check_kept",
    "checkpoint_path",
    "clean",
    "mark_best",
    "newest_whole",
    "problem",
    "prune",
    "remove_partial",
    "save",
    "write_sums",
    "write_whole",
]
