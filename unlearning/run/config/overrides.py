"""Checks command-line overrides before Hydra starts, and suggests the nearest key to a misspelt
one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.nested import leaves, walk
from unlearning.run.config.folder import config_folder
from unlearning.run.config.hydra_node import check_hydra
from unlearning.run.config.searchpath import searchpath_of

# Hydra's plugins of the extra `sweeps`, by the names they give to choices.
PLUGINS = {"submitit": "hydra_submitit_launcher", "sampler": "hydra_optuna_sweeper"}
PLUGINS["optuna"] = PLUGINS["sampler"]


def check_overrides(arguments: Sequence[str]) -> DictConfig:
    """Composes with the group choices only, and looks every other key up in the result.

    A sweep over a group (`model=tiny,local`) is composed with its first choice; that the others are
    there is looked up.

    Returns:
        That configuration, Hydra's own part included.

    Raises:
        ConfigError: an override does not parse, a group has no such choice, or a key is unknown.
    """
    words = [
        word for word in arguments if not word.startswith("-") and ("=" in word or "~" in word)
    ]
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(words)
            known_groups = Groups(loader, searchpath_of(words))
            groups = [override for override in parsed if override.key_or_group in known_groups]
            chosen = [known_groups.first_choice(override) for override in groups]
            chosen += known_groups.searchpath
            config = compose("config", overrides=chosen, return_hydra_config=True)
    except ConfigError:
        raise
    except (HydraException, ValueError) as error:  # the latter for logger=null
        raise ConfigError(explained(words, error)) from error
    check_hydra(config)
    known = dict(walk(OmegaConf.to_container(config, resolve=False), lists=False))
    for override in (*parsed, *searched(config)):
        key = override.key_or_group
        if override.is_delete() and (key in known_groups or key in config):
            raise ConfigError(
                f"{override.input_line}: every setting at the top is read, and none can be "
                f"removed. Give it another value: {key}=..."
            )
        if key not in known_groups:
            _check_key(override, known)
        if override.is_range_sweep() and not list(override.sweep_iterator()):
            raise ConfigError(f"{override.input_line} holds no value: the end is not included.")
    return config


def searched(config: DictConfig) -> list[Override]:
    """Returns the sweeper's own `params`, written flat or nested, as overrides."""
    params = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create())
    words = [f"{key}={value}" for key, value in leaves(params, lists=False)]
    return OverridesParser.create().parse_overrides(words)


def explained(words: Sequence[str], error: Exception) -> str:
    """Turns Hydra's error about some overrides into ours; names the extra of a missing plugin."""
    text = str(error)
    if "Could not find 'hydra/" in text or "Could not load 'hydra/" in text:
        for name, package in PLUGINS.items():
            if name in text.splitlines()[0] and not _installed(package):
                return (
                    f"In {' '.join(words)!r}: this needs the package "
                    f"{package.replace('_', '-')}. Install it: pip install 'unlearning[sweeps]'."
                )
    if "Got NoneType" in text:
        return (
            f"In {' '.join(words)!r}: a group takes the name of a choice, not null. Where one can "
            "be left out that is none: logger=none, finetune=none, classifier=none."
        )
    return f"In {' '.join(words)!r}: {text}"


def _installed(plugin: str) -> bool:
    try:
        return find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # no plugin of Hydra's at all
        return False


@dataclass(frozen=True)
class Groups:
    """The configuration groups: the package's, and those of the user's own folders.

    Args:
        searchpath: the override that names these folders, if there is one.
    """

    loader: ConfigLoader
    searchpath: list[str]

    def __contains__(self, key: str) -> bool:
        group = key.split("@")[0]
        if (config_folder() / group).is_dir() or group.startswith("hydra/"):
            return True
        return bool(self.searchpath) and bool(self._choices(group))

    def _choices(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, config_name="config", overrides=self.searchpath)

    def first_choice(self, override: Override) -> str:
        """Returns the override itself, or with the first of the choices that it sweeps over."""
        if not override.is_sweep_override():
            return str(override.input_line)
        choices = list(override.sweep_string_iterator())
        group = override.key_or_group
        known = self._choices(group)
        for choice in choices:
            if choice not in known:
                raise ConfigError(
                    f"{override.input_line}: there is no {group}={choice}; there is "
                    f"{', '.join(known)}."
                )
        if not choices:
            raise ConfigError(
                f"{override.input_line} chooses nothing; there is {', '.join(known)}."
            )
        return f"{override.get_key_element()}={choices[0]}"


def _check_key(override: Override, known: Mapping[str, Any]) -> None:
    key = override.key_or_group
    if override.is_add() or override.is_delete() or override.is_force_add() or key in known:
        return
    if not _below_open_node(key, known):
        raise ConfigError(_unknown(key, known))


def _below_open_node(key: str, known: Mapping[str, Any]) -> bool:
    """Whether the key is in a list, which is not looked into."""
    parent = key.rpartition(".")[0]
    while parent:
        if isinstance(known.get(parent), list):
            return True
        parent = parent.rpartition(".")[0]
    return False


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    own = [name for name in known if not name.startswith("hydra.")]
    near = get_close_matches(key, own, n=1, cutoff=0.5)
    last = key.rpartition(".")[2]
    near = near or [name for name in own if name.rpartition(".")[2] == last][:1]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"Unknown configuration key {key!r}.{hint} `unlearn --cfg job` shows all; +{key}=... adds."
    )
