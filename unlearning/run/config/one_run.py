"""Composes the configuration of a single run, and refuses overrides that only a sweep takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.run.config.folder import config_folder
from unlearning.run.config.overrides import explained


def check_one_run(arguments: Sequence[str]) -> None:
    """Checks the overrides of a single run before they are composed.

    Raises:
        ConfigError: a word is no setting, holds several values or belongs to a sweep.
    """
    for before, word in pairwise(("", *arguments)):
        # The word after a flag may be its value: --cfg job.
        if not (before.startswith("-") or word.startswith(("-", "~")) or "=" in word):
            raise ConfigError(
                f"{word!r} is no setting. Expected key=value without spaces around '=', such as "
                "experiment=demo; `unlearn --help` lists the choices."
            )
    words = [word for word in arguments if not word.startswith("-") and "=" in word]
    for override in OverridesParser.create().parse_overrides(words):
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(
                f"{override.input_line} holds several values, and one run takes one. A run for "
                f"each: unlearn -m ...; a list: {key}=[...]; one text with commas: "
                f"{key}='\"...\"', quoted twice."
            )
        if key == "sweep.resume" and override.value() is not None:
            raise ConfigError(
                f"{override.input_line} goes on with a sweep, which takes -m: "
                f"unlearn -m {override.input_line}."
            )


def run_composed(arguments: Sequence[str], job: Callable[[DictConfig], None]) -> None:
    """Composes once and calls `job`, as `hydra.main` does with overrides that come without a flag.

    That composes twice, and tells of an error its own way, with exit code 1.

    Raises:
        ConfigError: the settings do not compose, or the run folder cannot be made.
    """
    begun = False

    def task(config: DictConfig) -> None:
        nonlocal begun
        begun = True
        job(config)

    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            hydra.run("config", task, overrides=list(arguments))
    except (HydraException, OmegaConfBaseException) as error:
        if begun:  # the job's own
            raise
        raise ConfigError(explained(arguments, error)) from error
    except OSError as error:
        if begun:
            raise
        raise ConfigError(
            f"The run folder cannot be made: {error}. Choose another one with "
            "hydra.run.dir=<folder>."
        ) from error
