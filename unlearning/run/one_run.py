"""The command line of one run: what only a sweep can do with is refused, and told how."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.run.conf import config_folder
from unlearning.run.overrides import explained


def check_one_run(arguments: Sequence[str]) -> None:
    """Compose as Hydra is going to, which would tell of an error its own way, with exit code 1.

    Raises:
        ConfigError: a word is no setting, holds several values or belongs to a sweep, or the
            settings do not compose.
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
    if any(word.startswith("-") for word in arguments):
        return  # a flag may name other configurations, or asks for no run
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            compose("config", overrides=list(arguments))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explained(arguments, error)) from error
