"""Importing what a run needs, without searching it for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """The collector rests for the block, and leaves alone for good what there is at its end.

    An import makes objects that stay. torch, Lightning and transformers make so many that looking
    through them, again and again as they grow, is a fifth of the time that importing them takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
