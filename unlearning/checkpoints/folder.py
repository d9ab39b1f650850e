"""The checkpoints of a run: finds the newest whole one, and removes old ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal, get_args

from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from unlearning.checkpoints.whole import WholeCheckpointIO, problem, write_sums
from unlearning.errors import ConfigError
from unlearning.files.sums import SUMS

BEST = "best.ckpt"

Kept = Literal["all", "last", "none"]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns the path of the checkpoint after `step` updates."""
    return folder / f"step={step}.ckpt"


def by_step(folder: Path) -> dict[int, Path]:
    """Lists the checkpoints of a folder by step, the newest first, without reading them."""
    found = {}
    for path in folder.glob("step=*.ckpt"):
        if match := re.fullmatch(r"step=(\d+)\.ckpt", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items(), reverse=True))


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Returns the newest checkpoint that is whole.

    Returns:
        Its path, None where there is none; and of each newer one its path and why it was skipped.
    """
    skipped: list[str] = []
    for path in by_step(folder).values():
        found = problem(path)
        if found is None:
            return path, skipped
        skipped.append(f"{path} is not whole and was skipped: {found}.")
    return None, skipped


def save(trainer: Trainer, folder: Path) -> Path:
    """Saves a whole checkpoint to resume from. Collective: every rank has to call it."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nobody chose another one
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
    path = checkpoint_path(folder, trainer.global_step)
    if trainer.is_global_zero and path.is_dir():  # broken, or it would not be made again
        remove(path)
    trainer.strategy.barrier()
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero and path.is_dir():
        write_sums(path)
    return path


def remove(path: Path) -> None:
    """Removes a checkpoint, a file or a folder."""
    if path.is_dir():
        # Its sums first: half of it must not count as whole.
        (path / SUMS).unlink(missing_ok=True)
        shutil.rmtree(path)
    else:
        path.unlink()


def prune(folder: Path, step: int, keep: int, best: int | None) -> None:
    """Removes all but the last `keep` checkpoints up to `step`, and the best one.

    Those beyond `step` are left: a resume has found them broken, and the run will write them again.
    """
    upto = [number for number in by_step(folder) if number <= step]
    for number in set(upto[keep:]) - {best}:
        remove(checkpoint_path(folder, number))


def clean(folder: Path, kept: Kept) -> None:
    """Removes checkpoints of a finished run.

    Args:
        kept: `all`; `last`, with the best where one was marked; or `none`.
    """
    check_kept(kept)
    if kept == "all" or not folder.is_dir():
        return
    remove_partial(folder)
    marked = (folder / BEST).resolve().name if kept == "last" else None
    for number, path in enumerate(by_step(folder).values()):
        if path.name != marked and (kept == "none" or number > 0):
            remove(path)
    if kept == "none":
        (folder / BEST).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def check_kept(kept: object) -> None:
    """Raises a ConfigError for a value that `clean` does not take."""
    if kept not in get_args(Kept):
        raise ConfigError(
            f"callbacks.checkpoint.finished={kept!r}: which checkpoints of a finished run to keep; "
            f"choose one of {', '.join(get_args(Kept))}."
        )


def mark_best(folder: Path, step: int) -> None:
    """Makes `best.ckpt` the checkpoint after `step` updates."""
    aside = folder / f".{BEST}.partial"
    aside.unlink(missing_ok=True)
    aside.symlink_to(checkpoint_path(folder, step).name)
    aside.replace(folder / BEST)


def remove_partial(folder: Path) -> None:
    """Removes partial files of a run killed while writing. Only for the run that owns the
    folder."""
    for path in folder.glob(".*.ckpt.partial"):
        path.unlink()
