"""A loss given on the command line takes the place of the other loss's options, too."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf


def with_own_options(arguments: Sequence[str], config: DictConfig) -> list[str]:
    """Returns the arguments, with the options dropped of every loss that they replace.

    Hydra merges: after `objective.forget.loss=unlearning.methods.npo.npo` the term would keep the
    `cap` of the bounded ascent that stood there. Options on the command line are the new loss's.

    Args:
        arguments: of one run.
        config: composed of their choices alone, see `check_overrides`.
    """
    words = [word for word in arguments if not word.startswith("-") and "=" in word]
    replaced = []
    for override in OverridesParser.create().parse_overrides(words):
        group, _, rest = override.key_or_group.partition(".")
        term, _, name = rest.rpartition(".")
        before = OmegaConf.select(config, f"objective.{term}") if term else None
        if group != "objective" or name != "loss" or before is None or override.is_delete():
            continue
        if before.get("options") and override.value() != before.loss:
            replaced.append(f"objective.{term}.options")
    replaced = [key for key in replaced if f"~{key}" not in arguments]
    if not replaced:
        return list(arguments)
    # A key that was dropped can be set again with ++ only.
    renewed = [f"++{word}" if _below(word, replaced) else word for word in arguments]
    place = next(n for n, word in enumerate(arguments) if word in words)  # first of all settings
    return [*renewed[:place], *(f"~{key}" for key in replaced), *renewed[place:]]


def _below(word: str, keys: Sequence[str]) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and any(key == known or key.startswith(f"{known}.") for known in keys)
