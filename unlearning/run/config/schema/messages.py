"""Error messages for values that a schema refuses: key, value, what was expected, what to do."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from unlearning.ranges import LARGEST, LARGEST_NUMBER
from unlearning.run.config.schema.kinds import Says, Target

Path = tuple[Any, ...]
YES, NO = ("yes", "on", "true", "y"), ("no", "off", "false", "n")


def sentences(error: ValidationError, annotation: Any, values: Any, key: str = "") -> list[str]:
    """Returns a sentence for each key that was refused.

    Args:
        annotation: what the values were checked against.
        key: of the values as a whole.
    """
    found: dict[Path, str] = {}
    for each in error.errors(include_url=False):
        path, known = _path(each, values)
        if each["type"] in ("missing", "extra_forbidden"):
            known = False
        if path not in found or known is False:
            found[path] = _sentence(each, annotation, values, path, key)
    # Of a union each member has an error; the ones further down say more.
    return [
        text for path, text in found.items()
        if not any(other[: len(path)] == path for other in found if len(other) > len(path))
    ]  # fmt: skip


def dotted(path: Path, key: str = "") -> str:
    """Writes a path as a key of the configuration: `a.b[0]`."""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    return key


def _path(each: Any, values: Any) -> tuple[Path, bool]:
    """Returns where in the values an error is, without pydantic's names of a union's members."""
    path: list[Any] = []
    for part in each["loc"]:
        mapping = isinstance(values, Mapping)
        item = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if item or (mapping and part in values):
            values = values[part]
            path.append(part)
        elif each["type"] == "missing" and part is each["loc"][-1]:
            return (*path, part), False
    return tuple(path), True


def _sentence(each: Any, annotation: Any, values: Any, path: Path, key: str) -> str:
    name = dotted(path, key)
    if each["type"] == "missing":
        name = dotted((*path[:-1], each["loc"][-1]), key)
        hint = ", the import path of a class" if name.endswith("_target_") else ""
        return f"{name} is missing{hint}. Give it a value: {name}=..."
    if each["type"] == "extra_forbidden":
        known = list(_keys(_at(annotation, path[:-1])))
        near = get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        whole = dotted(path[:-1], key) or "the configuration"
        return f"Unknown key {name!r}.{hint} {whole} takes {', '.join(known)}."
    value = _value(values, path)
    if each["type"] == "value_error":
        return f"{name}={shown(value)}: {str(each['ctx']['error']).rstrip('.')}."
    wanted = _at(annotation, path)
    if wanted is None:
        return f"{name}={shown(value)}: {each['msg']}."
    return f"{name}={shown(value)} must be {expected(wanted)}.{_hint(wanted, value, name)}"


def shown(value: Any) -> str:
    """Shows a value as YAML would, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _value(values: Any, path: Path) -> Any:
    for part in path:
        values = values[part]
    return values


def expected(annotation: Any) -> str:
    """Describes a type in words: "a whole number of at least 1, or null"."""
    members = [one for member in _members(annotation) if (one := _one(member))]
    members = list(dict.fromkeys(members))
    if len(members) == 1:
        return members[0]
    return f"{', '.join(members[:-1])} or {members[-1]}"


def _one(annotation: Any) -> str:
    bare, notes = _bare(annotation)
    said = [note.expected for note in notes if isinstance(note, Says)]
    if said:
        return said[-1]
    origin = get_origin(bare)
    if bare in (None, type(None)):
        return "null"
    if origin is Literal:
        choices = [str(choice) for choice in get_args(bare) if choice != ""]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if origin in (list, tuple, Sequence) or bare in (list, tuple):
        inner = get_args(bare)
        some = "a list, not empty," if any(isinstance(n, MinLen) for n in notes) else "a list"
        plain = not inner or inner[0] is Any
        return some.rstrip(",") if plain else f"{some} of {expected(inner[0])} each"
    if isinstance(bare, type) and issubclass(bare, Target):
        return "a mapping with _target_, the import path of a class"
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        keys = list(_keys(bare))
        return f"a mapping of {', '.join(keys)}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if bare in names:
        return f"{names[bare]}{_range(notes)}"
    return "a mapping" if bare is dict or origin in (dict, Mapping) else str(bare)


def _range(notes: Sequence[Any]) -> str:
    """Describes a range; a bound that all numbers of the kind share is left out."""
    low = next((f"of at least {n.ge}" for n in notes if isinstance(n, Ge)), "")
    low = next((f"above {n.gt}" for n in notes if isinstance(n, Gt)), low)
    bounds = (LARGEST, LARGEST_NUMBER)
    high = next((f"at most {n.le}" for n in notes if isinstance(n, Le) and n.le not in bounds), "")
    high = next((f"below {n.lt}" for n in notes if isinstance(n, Lt)), high)
    if any(isinstance(n, Ge) and n.ge == -LARGEST_NUMBER for n in notes):
        low = ""
    said = " and ".join(filter(None, (low, high)))
    return f" {said}" if said else ""


def _hint(annotation: Any, value: Any, name: str) -> str:
    kinds = {_bare(member)[0] for member in _members(annotation)}
    if isinstance(value, str):
        return _hint_at_text(kinds, value, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    if kinds <= {str, None, type(None)}:
        return f" It is a number: quote it twice, {name}=\"'{value}'\"."
    if value > LARGEST and int in kinds:
        return f" At most {LARGEST} can be."
    return f" At most {LARGEST_NUMBER:g} can be." if value > LARGEST_NUMBER else ""


def _hint_at_text(kinds: set[Any], value: str, name: str) -> str:
    if bool in kinds and value.lower() in (*YES, *NO):
        return f" {value!r} is text here: write {name}={str(value.lower() in YES).lower()}."
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    near = get_close_matches(value, [c for c in choices if isinstance(c, str)], n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    if kinds & {int, float} and value.replace(".", "").replace("e-", "").isdigit():
        return " It is text: leave out the quotes."
    return ""


def _members(annotation: Any) -> Iterator[Any]:
    """Yields the members of a union, or the type itself."""
    bare, notes = _bare(annotation)
    if get_origin(bare) in (Union, types.UnionType) and not any(isinstance(n, Says) for n in notes):
        for member in get_args(bare):
            yield from _members(member)
    else:
        yield annotation


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """Splits off what `Annotated` notes."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    bare, *notes = get_args(annotation)
    flat: list[Any] = []
    for note in notes:
        flat += note.metadata if isinstance(note, FieldInfo) else [note]
    return bare, flat


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the types of a model's keys, as they are called in the configuration."""
    hints = get_type_hints(model, include_extras=True)
    return {field.alias or name: hints[name] for name, field in model.model_fields.items()}


def _keys(annotation: Any) -> Iterator[str]:
    for member in _members(annotation):
        bare, _ = _bare(member)
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            yield from _fields(bare)


def _at(annotation: Any, path: Path) -> Any:
    """Returns the type of what stands at a path; None where it is anything."""
    for part in path:
        # A key that a member of a union names comes before one that another leaves open.
        members = sorted(_members(annotation), key=lambda member: part not in _keys(member))
        annotation = next(filter(None, (_below(m, part) for m in members)), None)
    return None if annotation is Any else annotation


def _below(annotation: Any, part: Any) -> Any:
    bare, _ = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        if bare.model_config.get("extra") == "forbid":
            return _fields(bare).get(part)
        extra = get_type_hints(bare, include_extras=True).get("__pydantic_extra__")
        rest = get_args(_bare(extra)[0])[-1] if extra and get_args(extra) else None
        return _fields(bare).get(part, rest)
    inner, origin = get_args(bare), get_origin(bare)
    if inner and origin in (dict, Mapping):
        return inner[-1]
    items = origin in (list, Sequence, tuple) and isinstance(part, int)
    return inner[0] if inner and items else None
