"""Names of the methods that intervals were made with, in words."""

from __future__ import annotations

from collections.abc import Iterable

from unlearning.report.figures import Figure

_METHODS = {
    "wilson_cc": "Wilson, corrected",
    "newcombe_paired": "Newcombe, paired",
    "newcombe": "Newcombe",
    "mover_r": "MOVER-R",
    "percentile bootstrap": "bootstrap",  # up to version 0.5
}
_CLUSTER = "cluster_"

ONE_MODEL = (
    "Intervals are over prompts of this one trained model: training again with another seed may "
    "move a figure further than its interval."
)
NO_INTERVAL = (
    "A dash in place of an interval: there is none, since every resample gave the same value, or "
    "the value holds by definition."
)


def method_of(shown: Figure) -> str:
    """Returns the method of a figure's interval in words; "" where it has none."""
    if not shown.has_interval:
        return ""
    name = shown.method or "bootstrap"  # 0.4 had no other, and did not say so
    whole = name.removeprefix(_CLUSTER)
    return _METHODS.get(whole, whole) + (" by prompt" if whole != name else "")


def methods_of(measured: Iterable[Figure], change: Iterable[Figure] = ()) -> str:
    """Describes how the intervals of a table's row were made: those of the models, then, where it
    is another method, that of the change."""
    values = list(dict.fromkeys(filter(None, map(method_of, measured))))
    changes = [name for name in map(method_of, change) if name and name not in values]
    said = [", ".join(values)] if values else []
    said += [f"change: {name}" for name in changes]
    return "; ".join(said)
