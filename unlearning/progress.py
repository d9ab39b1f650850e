"""How far a loop has come, told to whatever shows it; a run does, a library call does not.

Loops deep in the package say what they count, and need not know of terminals or log files:
`unlearning.run.output.progress` shows them as bars or as lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Loop:
    """What is counted.

    Args:
        name: of the work, such as `unlearn` or the name of a prompt set.
        total: how many items there are; None for work that is not counted.
        unit: one item, in the singular; "" without `total`.
        begun: items that were done before, in a part of the run that ended.
    """

    name: str
    total: int | None = None
    unit: str = ""
    begun: int = 0


class Advance(Protocol):
    """Is told how many more items are done, and what else there is to show, such as losses."""

    def __call__(self, more: int, note: str | None = None) -> None: ...


Show = Callable[[Loop], AbstractContextManager[Advance]]


@contextmanager
def _silent(loop: Loop) -> Iterator[Advance]:
    yield lambda more, note=None: None


_show: ContextVar[Show] = ContextVar("show", default=_silent)


def counting(name: str, total: int, unit: str, begun: int = 0) -> AbstractContextManager[Advance]:
    """Context of a loop over `total` items; what it yields is told how many more are done."""
    return _show.get()(Loop(name, total, unit, begun))


def working(name: str) -> AbstractContextManager[Advance]:
    """Context of work that may take long and counts nothing, such as loading a model."""
    return _show.get()(Loop(name))


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Context in which all loops of this thread are shown by `show`."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def duration(seconds: float) -> str:
    """Formats seconds: `12 s`, `3 min 20 s`, `2 h 5 min`.

    Examples:
        >>> duration(12), duration(200), duration(7500)
        ('12 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
