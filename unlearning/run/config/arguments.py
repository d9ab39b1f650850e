"""Checks arguments of the configuration against the annotations of what they are passed to."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase

from unlearning.classifier import JigsawDataModule
from unlearning.data.examples import ExampleDataModule
from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule
from unlearning.run.config.schema.messages import sentences

RENAMED = {"teach": "finetune_on"}
"""Arguments that were renamed: the name in version 0.4, and that of today."""
PASSING_ON = (ExampleDataModule, UnlearningModule, JigsawDataModule)
"""Classes whose subclasses hand their `**settings` on to the base class."""
NAMES = {"PreTrainedTokenizerBase": PreTrainedTokenizerBase}
"""Types in annotations that their modules import for type checkers alone."""


def check_arguments(
    function: Callable[..., Any], given: Mapping[str, Any], key: str, inputs: int = 0
) -> None:
    """Checks names and types of the arguments that a class or function is given.

    Args:
        key: of the mapping in the configuration.
        inputs: so many first parameters are passed by the program.

    Raises:
        ConfigError: naming all arguments that it does not take, or not with this value.
    """
    known, takes_all = parameters(function)
    own = dict(list(known.items())[inputs:])
    name, wrong = getattr(function, "__qualname__", str(function)), list[str]()
    for argument, value in given.items():
        if argument in own:
            wrong += value_faults(own[argument], value, f"{key}.{argument}", strict=_ours(function))
        elif not takes_all:
            near = get_close_matches(RENAMED.get(argument, argument), own, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            wrong.append(
                f"{key}: {function.__module__}.{name} takes no {argument!r}.{hint} It takes "
                f"{', '.join(sorted(own)) or 'none'}."
            )
    if wrong:
        raise ConfigError("\n  ".join(wrong))


def parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Returns the parameters with their types, and whether any other name is taken, too.

    Those of base classes are among them where `**settings` are passed on. A parameter without an
    annotation has the type Any.
    """
    found: dict[str, Any] = {}
    for owner in inspect.getmro(function) if inspect.isclass(function) else (function,):
        called: Any = owner.__init__ if inspect.isclass(owner) else owner
        hints, passed_on = types_of(called), False
        for parameter in inspect.signature(called).parameters.values():
            hint = hints.get(parameter.name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                inner = next(iter(get_args(hint)), None)
                named = typing.is_typeddict(inner)
                found = {**types_of(inner), **found} if named else found
                passed_on = not named
            elif parameter.kind in (
                parameter.KEYWORD_ONLY,
                parameter.POSITIONAL_OR_KEYWORD,
            ):
                found.setdefault(parameter.name, hint)
        if not passed_on:
            break
        if not (inspect.isclass(owner) and issubclass(owner, PASSING_ON)):
            return _without_self(found), True
    return _without_self(found), False


def _without_self(found: dict[str, Any]) -> dict[str, Any]:
    return {name: hint for name, hint in found.items() if name != "self"}


@cache
def types_of(owner: Any) -> dict[str, Any]:
    """Resolves annotations, those that cannot be to Any."""
    with_globals = inspect.unwrap(owner)
    known = getattr(with_globals, "__globals__", None)
    if known is None:
        module = inspect.getmodule(owner)
        known = vars(module) if module else {}
    try:
        return get_type_hints(owner, known, NAMES, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        pass
    found: dict[str, Any] = {}
    for name, annotation in getattr(owner, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= get_type_hints(one, known, NAMES, include_extras=True)  # type: ignore[arg-type]
        except (NameError, TypeError, AttributeError, SyntaxError):
            found[name] = Any
    return found


def _ours(function: Callable[..., Any]) -> bool:
    return (function.__module__ or "").partition(".")[0] == "unlearning"


def value_faults(annotation: Any, value: Any, key: str, strict: bool = True) -> list[str]:
    """Returns what is wrong with a value; a mapping for a dataclass is checked as its arguments.

    What a `_target_` in it makes is not looked at here.

    Args:
        strict: nothing but what the annotation says; else a type that is not plain lets any pass.
    """
    if isinstance(value, Mapping):
        for member in members(annotation):
            if inspect.isclass(member) and is_dataclass(member):
                try:
                    check_arguments(member, value, key)
                except ConfigError as error:
                    return [str(error)]
                return []
    kinds, complete = plain(annotation)
    if kinds is None or has_target(value) or not (complete or strict):
        return []
    adapter = TypeAdapter(kinds, config=ConfigDict(strict=True, allow_inf_nan=False))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return sentences(error, kinds, value, key)
    return []


def has_target(value: Any) -> bool:
    """Whether a value, or an item of a list, is a node with a `_target_`."""
    if isinstance(value, list):
        return any(map(has_target, value))
    return isinstance(value, Mapping) and "_target_" in value


def members(annotation: Any) -> list[Any]:
    """Returns the members of a union, without what `Annotated` notes; or the type itself."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in members(member)]
    return [annotation]


def plain(annotation: Any) -> tuple[Any, bool]:
    """Returns what of a type a YAML file can hold, and whether that is all of it.

    None where it is not plain at all, or anything.
    """
    if annotation is Any or annotation is inspect.Parameter.empty:
        return None, True
    if annotation in (int, float, str, bool, None, type(None)):
        return annotation, True
    if annotation is Path:
        return str, True
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return annotation, True
    if origin is Annotated:
        kind, complete = plain(inner[0])
        return (None if kind is None else Annotated[(kind, *inner[1:])]), complete  # type: ignore[return-value]
    if origin in (Union, types.UnionType):
        found = [plain(member) for member in inner]
        kinds = [kind for kind, _ in found if kind is not None]
        if any(kind is None and complete for kind, complete in found) or not kinds:
            return None, True  # Any is among them
        return Union[tuple(kinds)], all(complete for _, complete in found)  # noqa: UP007
    if origin in (list, tuple, set, Sequence, typing.Iterable) or annotation in (list, tuple):
        kind, complete = plain(inner[0]) if inner else (None, True)
        return (list if kind is None else list[kind]), complete  # type: ignore[valid-type]
    if origin in (dict, Mapping) or annotation is dict:
        return dict, True
    return None, False
