"""Importing what a run needs: not searched for garbage, and without what no run asks for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError
from importlib.util import find_spec

UNUSED = {"scipy": "scipy", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}
"""Modules, with the names they are installed by, that torchmetrics and transformers import where
they find them: for scores of sounds, plots of their own and boxes in pictures."""
NEEDING_THEM = ("librosa", "torch_fidelity", "vmaf_torch", "scienceplots", "pystoi", "gammatone")
"""What the two import as well where they find it, and what cannot be imported without `UNUSED`."""


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


def import_libraries() -> None:
    """torchmetrics and transformers as they are where `UNUSED` is not installed.

    Both do without, and whoever needs one of these later (the report's plots, say) imports it as
    ever. That saves a sixth of the time to the first step. What is lost, in this process, are
    functions that a run does not use, such as torchmetrics' own plots: they say what they lack.
    """
    if any(find_spec(name) is not None for name in NEEDING_THEM):
        return
    with absent({name: UNUSED[name] for name in UNUSED if name not in sys.modules}):
        import_module("torchmetrics")
        import_module("transformers.modeling_utils")
    # transformers remembers the answer, and models that it imports later may want scipy.
    import_module("transformers.utils").is_scipy_available.cache_clear()


@contextmanager
def absent(packages: Mapping[str, str]) -> Iterator[None]:
    """Within the block these packages are not there, however it is asked for them.

    Args:
        packages: modules that are not imported yet, with the names they are installed by.
    """
    find = Distribution.__dict__["from_name"]

    def from_name(name: str) -> Distribution:
        if name in packages.values():
            raise PackageNotFoundError(name)
        return find.__func__(Distribution, name)  # type: ignore[no-any-return]

    Distribution.from_name = staticmethod(from_name)  # type: ignore[assignment,method-assign]
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        Distribution.from_name = find  # type: ignore[method-assign]
        for name in packages:
            del sys.modules[name]
