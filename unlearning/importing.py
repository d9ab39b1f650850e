"""Import paths: from a string to what it names, and back."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

from unlearning.errors import ConfigError


def import_object(path: str) -> Any:
    """What `package.module.name` names.

    Raises:
        ConfigError: nothing of that name; the nearest one is suggested.
    """
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"Cannot import {path!r}: {error}. Give package.module.name.") from error
    try:
        return getattr(module, name)  # not vars(): packages that load lazily answer here only
    except AttributeError as error:
        near = get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {module_name}.{near[0]}?" if near else "."
        raise ConfigError(f"{module_name!r} has no {name!r}{hint}") from error


def import_path(function: Any) -> str:
    """The import path of a callable, for a checkpoint.

    Raises:
        ConfigError: it has none that leads back to it (a lambda, a local function, a partial).
    """
    path = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    advice = "Define it at the top of a module that can be imported, and give it options there."
    if "<" in path or path.startswith("__main__"):
        raise ConfigError(f"{function!r} has no import path. {advice}")
    try:
        found = import_object(path)
    except ConfigError as error:
        raise ConfigError(f"{function!r} has no import path. {advice}") from error
    if found is not function:
        raise ConfigError(f"{path} is not {function!r} but {found!r}. {advice}")
    return path
