"""Selects records by the values of their columns: `where: {is_safe: false}`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from unlearning.data.records.cells import parse_flag, shortened
from unlearning.errors import ConfigError

BOUNDS = ("min", "max")
KEPT = 20
"""Different values of a column that are kept, to name them where none is the wanted one."""

Record = Mapping[str, Any]


class RowFilter:
    """Tells which records are wanted: those whose columns all have a wanted value.

    A column's wanted value is a text, a number, a bool, null (no value), a list (any of these), or
    `{min: 3, max: 5}` (numbers, both included, either may be left out). Where the cell is a mapping
    (BeaverTails' `category`), the wanted one is a mapping too, of its keys: `{category:
    {animal_abuse: true}}`. In csv a number or bool is parsed from the cell's text.

    Args:
        where: column -> wanted value; None or empty takes every record.
        source: names the source in errors.

    Raises:
        ConfigError: a wanted value is none of these.
    """

    def __init__(self, where: Mapping[str, Any] | None, source: str) -> None:
        if where is not None and not isinstance(where, Mapping):
            raise ConfigError(f"where={where!r}: expected columns with values, {{is_safe: false}}.")
        self.source = source
        self.wanted = {str(column): value for column, value in (where or {}).items()}
        for column, value in self.wanted.items():
            _check_wanted(column, value)
        self._seen: dict[str, Counter[str]] = {}
        self._found: set[tuple[str, str]] = set()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.wanted)

    def takes(self, record: Record, place: str) -> bool:
        """Whether a record is wanted; it has to have the columns.

        Args:
            place: of the record, for errors.

        Raises:
            ConfigError: a cell cannot be compared with what is wanted of it.
        """
        # All columns, so that what no record has is known of each.
        return all(
            [self._fits(name, record[name], value, place) for name, value in self.wanted.items()]
        )

    def check_found(self) -> None:
        """Checks, after the last record, that every wanted value was found.

        Raises:
            ConfigError: a wanted value was in no record; names those that were.
        """
        for column, wanted in _single_values(self.wanted):
            if (column, repr(wanted)) in self._found:
                continue
            seen = self._seen.get(column, Counter())
            there = ", ".join(f"{text} ({n})" for text, n in seen.most_common(KEPT))
            raise ConfigError(
                f"{self.source}: where.{column}={wanted!r}: no record has this value. Those "
                f"there: {there or 'none'}{', ...' if len(seen) > KEPT else ''}."
            )

    def _fits(self, column: str, cell: Any, wanted: Any, place: str) -> bool:
        place = f"{place}, column {column!r}"
        if isinstance(cell, Mapping):
            return self._fits_mapping(column, cell, wanted, place)
        seen = self._seen.setdefault(column, Counter())
        text = shortened(cell)
        if text in seen or len(seen) <= KEPT:
            seen[text] += 1
        found = False
        for value in _alternatives(wanted):
            if _equals(cell, value, place):
                self._found.add((column, repr(value)))
                found = True
        return found

    def _fits_mapping(self, column: str, cell: Record, wanted: Any, place: str) -> bool:
        if not isinstance(wanted, Mapping):
            raise ConfigError(
                f"{place} holds a mapping of {', '.join(map(repr, cell)) or 'nothing'}, and where "
                f"wants {wanted!r}. Name a key of it: where.{column}={{KEY: {wanted!r}}}."
            )
        missing = [key for key in wanted if key not in cell]
        if missing:
            raise ConfigError(
                f"{place} has no {missing[0]!r}; present are {', '.join(map(repr, cell))}."
            )
        inner = ((f"{column}.{key}", cell[key], value) for key, value in wanted.items())
        return all([self._fits(*each, place) for each in inner])


def _single_values(wanted: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every (column, wanted value) but bounds; a mapping's columns by their path."""
    for column, value in wanted.items():
        for one in _alternatives(value):
            if not isinstance(one, Mapping):
                yield f"{prefix}{column}", one
            elif not set(one) <= set(BOUNDS):
                yield from _single_values(one, f"{prefix}{column}.")


def _alternatives(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]


def _check_wanted(column: str, value: Any) -> None:
    if value in ([], (), {}):
        raise ConfigError(f"where.{column}={value!r} takes no record; name a value.")
    for one in _alternatives(value):
        if isinstance(one, Mapping):
            if not set(one) <= set(BOUNDS):
                for key, inner in one.items():
                    _check_wanted(f"{column}.{key}", inner)
            elif not all(_is_number(bound) for bound in one.values()):
                raise ConfigError(f"where.{column}={one!r}: min and max must be numbers.")
        elif not (one is None or isinstance(one, (str, bool)) or _is_number(one)):
            raise ConfigError(
                f"where.{column}={one!r}: expected a text, a number, true, false or null, a list "
                "of these, or {min: ..., max: ...}."
            )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _equals(cell: Any, wanted: Any, place: str) -> bool:
    """Whether a cell has a wanted value; the cell is parsed as a value of the same type."""
    if wanted is None or cell is None or cell == "":
        return wanted is None and (cell is None or cell == "")
    if isinstance(wanted, bool):
        return parse_flag(cell, place) == wanted
    if isinstance(wanted, Mapping):
        if not set(wanted) <= set(BOUNDS):
            raise ConfigError(
                f"{place} holds {shortened(cell)}, and where wants keys of a mapping: {wanted!r}."
            )
        number = _number(cell, wanted, place)
        return wanted.get("min", -math.inf) <= number <= wanted.get("max", math.inf)
    if isinstance(wanted, str):
        if not isinstance(cell, str):
            raise ConfigError(
                f"{place} holds {shortened(cell)} ({type(cell).__name__}), and where wants the "
                f"text {wanted!r}. Write the value without quotation marks."
            )
        return cell.strip() == wanted.strip()
    return _number(cell, wanted, place) == wanted


def _number(cell: Any, wanted: Any, place: str) -> float:
    if isinstance(cell, bool):
        raise ConfigError(f"{place} holds {cell}, and where wants {wanted!r}; write true or false.")
    if isinstance(cell, int):
        return cell  # of any size, compared as it is
    try:
        return float(cell)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{place} holds {shortened(cell)}, which is no number, and where wants {wanted!r}."
        ) from error
