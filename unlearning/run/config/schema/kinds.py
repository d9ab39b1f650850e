"""What the nodes and values of the configuration are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


@dataclass(frozen=True)
class Says:
    """What a message calls a type that its range does not describe.

    Args:
        expected: after "must be".
    """

    expected: str


class Closed(BaseModel):
    """A node whose keys are all listed; a key that is not is refused, with the nearest one."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Open(Closed):
    """A node with some known keys, and further ones of the user's."""

    model_config = ConfigDict(extra="allow")


Text = Annotated[str, StringConstraints(max_length=100_000), Says("text")]
Word = Annotated[str, StringConstraints(min_length=1), Says("text, and not empty")]
Path = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]+$"), Says("a path")]
GGUFFile = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00\n]*\.[gG][gG][uU][fF]$"),
    Says("the path of a file that ends in .gguf"),
]
ModelName = Annotated[
    str,
    StringConstraints(min_length=1, pattern=r"^[^\x00\n]+$"),
    Says("the name of a model: a hub id or a folder"),
]
ImportPath = Annotated[
    str,
    StringConstraints(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)+$"),
    Says("an import path, package.module.name"),
]
FolderName = Annotated[
    str,
    StringConstraints(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,199}$"),
    Says("a name without slashes that does not begin with a dot: folders are called so"),
]
Steps = Annotated[
    Literal[-1] | Annotated[int, Field(ge=1, le=2**31 - 1)],
    Says("a whole number of at least 1, or -1 for no limit"),
]
Label = Annotated[
    str,
    StringConstraints(pattern=r"^[^/.\x00-\x1f]+$"),
    Says("a name without slashes and dots, which stand in paths to metrics"),
]
Roles = Literal["forget", "alternate", "mismatch", "retain"]
Split = Literal["train", "validation", "test", "all"]


class Target(Open):
    """A node with a `_target_`: a class that is called with the other keys. What class a key takes,
    and of what type its arguments are, is checked in `unlearning.run.checks.targets`."""

    target_: ImportPath = Field(alias="_target_")
    __pydantic_extra__: dict[str, Any]


def _has_two(values: list[Any]) -> list[Any]:
    if len(values) != 2:
        raise ValueError("expected two values, [first, last]")
    return values


Pair = Annotated[list[Any], AfterValidator(_has_two)]
