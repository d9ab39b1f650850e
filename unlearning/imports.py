"""Converts between import paths, `package.module.name`, and objects."""

from __future__ import annotations

import functools
import importlib
from difflib import get_close_matches
from typing import Any

from unlearning.errors import ConfigError


def import_object(path: str) -> Any:
    """Imports what `package.module.name` names.

    Raises:
        ConfigError: nothing of that name; the nearest one is suggested.
    """
    if path.startswith("<"):
        raise ConfigError(
            f"{path} was stored by its name only: a lambda, a local function, a partial or a "
            "method has no import path. Give it again, as in load_from_checkpoint(path, terms=...)."
        )
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
        if module_name == "__main__":
            hint += (
                " It was defined in the script that stored it. Give it again, as in "
                "load_from_checkpoint(path, terms=...), or define it in a module."
            )
        raise ConfigError(f"{module_name!r} has no {name!r}{hint}") from error


def import_path(function: Any) -> str | None:
    """Returns the import path that leads back to a callable; None if there is none.

    A function of the script that runs has one, `__main__.<name>`, which holds in that script only.
    """
    path = _qualified_name(function)
    if "<" in path:
        return None
    try:
        return path if import_object(path) is function else None
    except ConfigError:
        return None


def stored_name(function: Any) -> str:
    """Returns what stands for a callable in a checkpoint: its import path, or its name in `<>`.

    `import_object` refuses the latter. So lambdas, partials and local functions can be trained
    with and resumed, and are asked for when a checkpoint is loaded without them.
    """
    return import_path(function) or f"<{_described(function)}>"


def _described(function: Any) -> str:
    if isinstance(function, functools.partial):
        arguments = [repr(value) for value in function.args]
        arguments += [f"{name}={value!r}" for name, value in function.keywords.items()]
        return f"partial({', '.join([_described(function.func), *arguments])})"
    return _qualified_name(function)


def _qualified_name(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
