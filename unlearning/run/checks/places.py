"""Checks the folders of a run before any work: that they can be written to, and differ."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from unlearning.callbacks.loss_curve import read_rows
from unlearning.errors import ConfigError
from unlearning.run.stages.callbacks import CHECKPOINTS, LOSSES
from unlearning.run.stages.unlearned import MODEL


def check_places(config: DictConfig, folder: Path) -> None:
    """Checks run folder and `cache_dir`; makes neither.

    Raises:
        ConfigError: one of them cannot be made or written, or kept results would lie among the
            files of the run.
    """
    if why := _not_writable(folder):
        raise ConfigError(
            f"The run folder {folder} cannot be written: {why}. Choose another one with "
            "hydra.run.dir=<folder>."
        )
    named = config.cache_dir
    if named in (None, ""):
        raise ConfigError(
            f"cache_dir={named!r}: expected a folder, in which the stages keep their results for "
            "one another. Leave it out for ~/.cache/unlearning."
        )
    cache = Path(str(named)).expanduser()
    if why := _not_writable(cache):
        raise _no_cache(named, why)
    real, run = cache.resolve(), folder.resolve()
    if real == run or any(real.is_relative_to(run / name) for name in (MODEL, CHECKPOINTS)):
        raise ConfigError(
            f"cache_dir={named} lies among the files of the run, which writes and removes them "
            f"there ({folder}). Name a folder of its own, as cache_dir={folder / 'cache'}."
        )


def make_cache(config: DictConfig) -> None:
    """Makes `cache_dir` and writes to it, as the stages will; what a disk takes is known then.

    Raises:
        ConfigError: it does not.
    """
    cache = Path(str(config.cache_dir)).expanduser()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            file.write(b"0")
    except OSError as error:
        raise _no_cache(config.cache_dir, error) from error


def check_losses(folder: Path) -> None:
    """Checks the loss curve that a resumed run goes on with.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / LOSSES
    if not path.is_file():
        return
    try:
        for row in read_rows(path)[1]:
            int(row["step"])
    except ValueError as error:  # of a number, of UTF-8; or a ConfigError about its columns
        raise ConfigError(
            f"{path} is damaged: {error}. Move it away; the run then begins a new one where it "
            "goes on."
        ) from error


def _no_cache(named: object, why: object) -> ConfigError:
    return ConfigError(
        f"cache_dir={named} cannot be written: {why}. Name another folder, on a disk with room for "
        "the models of the stages."
    )


def _not_writable(folder: Path) -> str | None:
    """Explains why a folder cannot be made or written; None where it can."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        return f"{nearest} is a file"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"there is no permission to write in {nearest}"
    return None
