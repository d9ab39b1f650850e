"""Builds the object behind a `_target_`, once its class and arguments are what their key expects.

A configuration may come from elsewhere. What it names is imported, which runs a module's code, but
nothing is called that is not a class of the kind that belongs there.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.run.config.arguments import (
    check_arguments,
    has_target,
    members,
    parameters,
    types_of,
)

Kinds = type | tuple[type, ...]


def build(node: DictConfig | Mapping[str, Any], kinds: Kinds, key: str, **others: Any) -> Any:
    """Builds the object that a node with a `_target_` names, and those that stand in its arguments.

    Args:
        kinds: what it has to be.
        key: of the node.
        others: further arguments.

    Raises:
        ConfigError: `check_target` says no, or the class itself.
    """
    plain = _plain(node)
    target = check_target(plain, kinds, key)
    return _made(target, plain, key, others)


def check_target(node: Any, kinds: Kinds, key: str) -> Any:
    """Checks what a node names, and everything below it; nothing is called.

    Returns:
        The class. A function only if it is declared to return one.

    Raises:
        ConfigError: it cannot be imported, is of another kind, does not take an argument, or not
            with this value.
    """
    path = str(_plain(node).get("_target_"))
    target = _imported(path, key)
    made = target if inspect.isclass(target) else _returned(target)
    if not (inspect.isclass(made) and issubclass(made, kinds)):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        names = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in wanted)
        raise ConfigError(
            f"{key}._target_={path} is not taken: expected the import path of a class that is a "
            f"{names}. It was not called."
        )
    arguments = {str(n): value for n, value in _plain(node).items() if n != "_target_"}
    check_call(target, arguments, key)
    return target


def check_call(target: Any, arguments: Mapping[str, Any], key: str) -> None:
    """Checks the arguments of a class, and what is to be made for them."""
    check_arguments(target, arguments, key)
    known, _ = parameters(target)
    for name, value in arguments.items():
        _check_below(value, known.get(name, Any), f"{key}.{name}")


def _check_below(value: Any, annotation: Any, key: str) -> None:
    if not has_target(value):
        return
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check_below(item, _item(annotation), f"{key}[{number}]")
        return
    kinds = _classes(annotation)
    if not kinds:
        raise ConfigError(
            f"{key}._target_={value['_target_']} is not taken: no class is expected there. A "
            "parameter that takes an object says so by its annotation."
        )
    check_target(value, kinds, key)


def _made(target: Any, node: Mapping[str, Any], key: str, others: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in node.items() if name != "_target_"}
    arguments = made_arguments(target, given, key)
    try:
        return target(**arguments, **others)
    except ConfigError as error:
        raise ConfigError(str(error) if key in str(error) else f"{key}: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{key}: {node['_target_']} refuses its arguments {sorted(arguments)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def made_arguments(target: Any, given: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Returns checked arguments with the objects that their nodes name."""
    known, _ = parameters(target)
    return {n: _below(value, known.get(n, Any), f"{key}.{n}") for n, value in given.items()}


def _below(value: Any, annotation: Any, key: str) -> Any:
    if not has_target(value):
        return value
    if isinstance(value, list):
        return [_below(v, _item(annotation), f"{key}[{n}]") for n, v in enumerate(value)]
    return _made(_imported(value["_target_"], key), value, key, {})


def _imported(path: str, key: str) -> Any:
    try:
        return import_object(path)
    except ConfigError as error:
        raise ConfigError(f"{key}._target_: {error}") from error


def _returned(function: Any) -> Any:
    return types_of(function).get("return") if inspect.isfunction(function) else None


def _classes(annotation: Any) -> tuple[type, ...]:
    """Returns the classes of a type that no YAML file can hold."""
    plain = (int, float, str, bool, type(None), dict, list, tuple)
    return tuple(m for m in members(annotation) if inspect.isclass(m) and m not in plain)


def _item(annotation: Any) -> Any:
    """Returns the type of a list's items."""
    found = [inner for member in members(annotation) for inner in _arguments(member)]
    return found[0] if found else Any


def _arguments(member: Any) -> tuple[Any, ...]:
    return getattr(member, "__args__", ())[:1]


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
