"""Imports a run's libraries with the garbage collector disabled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Disables garbage collection for the block, and freezes what there is at its end.

    An import makes objects that stay. torch, Lightning and transformers make so many that
    collecting them again and again is a fifth of the time that importing them takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
