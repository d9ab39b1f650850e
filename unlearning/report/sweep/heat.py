"""Heat maps of a measure over pairs of swept numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from unlearning.report.axis import Axis, fit
from unlearning.report.figures import Figure
from unlearning.report.sweep.measures import RISE, Measure
from unlearning.report.sweep.settings import Setting
from unlearning.report.sweep.swept import Key
from unlearning.report.tables import Cell, cell

LEVELS = 9
MOST = 10
"""Values of a key that a table still has a row or a column for."""


@dataclass(frozen=True)
class Field:
    """One cell: a mean, how many settings and runs are in it, and how strong its colour is.

    Args:
        level: 0 is best, `LEVELS - 1` worst; None where nothing was measured.
    """

    cell: Cell
    level: int | None
    settings: int
    runs: int


@dataclass(frozen=True)
class HeatMap:
    """One measure over two keys.

    Args:
        rows: one for each value of the key that runs down, in order.
        uneven: cells are means over different numbers of settings, so that they may differ for
            what the other keys were.
    """

    measure: Measure
    across: Key
    down: Key
    rows: tuple[tuple[str, tuple[Field, ...]], ...]
    uneven: bool


def pairs(keys: Sequence[Key]) -> list[tuple[Key, Key]]:
    """Yields every pair of numeric keys."""
    return list(combinations([key for key in keys if key.numeric], 2))


def tabular(pair: tuple[Key, Key]) -> bool:
    """Whether a table of the two keys would be mostly filled, which it is not after a random
    search."""
    return all(len(key.values) <= MOST for key in pair)


def heat_map(settings: Sequence[Setting], measure: Measure, pair: tuple[Key, Key]) -> HeatMap:
    """Averages a measure over the other keys, each setting being the mean over its seeds."""
    across, down = pair
    scale = colour_scale(settings, measure)
    rows, sizes = [], set()
    for value in down.values:
        fields = []
        for other in across.values:
            field = _field(_inside(settings, {across: other, down: value}), measure, scale)
            fields.append(field)
            sizes.add(field.settings)
        rows.append((value, tuple(fields)))
    return HeatMap(measure, across, down, tuple(rows), len(sizes - {0}) > 1)


def _inside(settings: Sequence[Setting], wanted: dict[Key, str]) -> list[Setting]:
    return [s for s in settings if all(s.of(key) == value for key, value in wanted.items())]


def _field(settings: Sequence[Setting], measure: Measure, scale: Axis | None) -> Field:
    means = [setting.mean(measure) for setting in settings]
    values = [mean.value for mean in means if mean.value is not None]
    if not values:
        return Field(cell(Figure(), measure.unit), None, 0, 0)
    mean = math.fsum(values) / len(values)
    shown = cell(Figure(mean), measure.unit, measure.difference)
    return Field(shown, level(mean, measure, scale), len(values), sum(m.seeds for m in means))


def colour_scale(settings: Sequence[Setting], measure: Measure) -> Axis | None:
    """Returns the range from the best to the worst setting, so that pictures of a measure are
    comparable."""
    values = [setting.mean(measure).value for setting in settings]
    finite = [measure.worse(v) for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return None
    return fit(finite, 0.0, 1.0, pad=0.0, fold=10.0 if measure is RISE else 0.0)


def level(value: float, measure: Measure, scale: Axis | None) -> int:
    """Returns the strength of a colour; an infinite value counts as the worst."""
    if scale is None or not math.isfinite(value):
        return LEVELS - 1
    return round(scale.share(measure.worse(value)) * (LEVELS - 1))
