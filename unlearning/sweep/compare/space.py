"""What each method of a comparison searches or has set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.nested import leaves
from unlearning.sweep.words import key_of

Space = dict[str, dict[str, str]]
"""Method -> key -> its value in Hydra's words: one, or a range to search."""


def find_space(sweeper: DictConfig, methods: Sequence[str], arguments: Sequence[str] = ()) -> Space:
    """Returns for each method `params` with its part of `own` in their place; null takes out.

    A range on the command line takes the place of that in `params`, a value that of all.

    Args:
        sweeper: `hydra.sweeper`.
        arguments: the command line.

    Raises:
        ConfigError: a value does not parse, or nothing is left to search.
    """
    common = _words(sweeper.get("params") or {}, "params")
    own = sweeper.get("own") or {}
    fixed, ranges = split(arguments)
    common |= {key_of(word): word.partition("=")[2] for word in ranges}
    typed = {key_of(word): word.partition("=")[2] for word in fixed}
    space = {}
    for method in methods:
        words = {**common, **_words(own.get(method) or {}, f"own.{method}")}
        words = {key: typed.get(key, value) for key, value in words.items()}
        space[method] = {key: value for key, value in words.items() if value is not None}
        if not any(override.is_sweep_override() for override in parsed(space[method])):
            raise ConfigError(
                f"There is nothing to search for {method}: give it a range in "
                f"hydra.sweeper.own.{method}, such as method.alpha: interval(0.1, 2), or leave the "
                "method out."
            )
    return {method: dict(words) for method, words in space.items()}  # type: ignore[arg-type]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the words that give a value, and those that give a range or several values."""
    words: tuple[list[str], list[str]] = [], []
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        words[override.is_sweep_override()].append(str(override.input_line))
    return words


def parsed(words: Mapping[str, str | None]) -> list[Override]:
    """Returns keys and values as Hydra's overrides."""
    return OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in words.items()])


def ends(words: Mapping[str, str]) -> list[list[str]]:
    """Returns two settings at the ends of the ranges, for a look at the configuration there."""
    low, high = [], []
    for override in parsed(words):
        value: Any = override.value()
        if override.is_interval_sweep():
            first, last = str(value.start), str(value.end)
        elif override.is_sweep_override():
            choices = list(override.sweep_string_iterator())
            first, last = choices[0], choices[-1]
        else:
            first = last = override.get_value_element_as_str()
        low.append(f"{override.get_key_element()}={first}")
        high.append(f"{override.get_key_element()}={last}")
    return [low, high]


def _words(node: Any, where: str) -> dict[str, str | None]:
    """Returns the leaves of a mapping, written flat or nested, as Hydra's words."""
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if not isinstance(plain, Mapping):
        raise ConfigError(
            f"hydra.sweeper.{where} is {plain!r}; expected a mapping of keys to values and ranges."
        )
    found = {key: None if v is None else _word(v) for key, v in leaves(plain, lists=False)}
    for key, value in found.items():
        if value is not None:
            try:
                parsed({key: value})
            except HydraException as error:
                raise ConfigError(f"hydra.sweeper.{where}: {key}={value}: {error}") from error
    return found


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
