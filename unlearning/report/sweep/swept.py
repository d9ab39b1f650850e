"""Finds the keys that a sweep varied, and the value that each job had for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unlearning.report.sweep.folder import Job, SweepFolder
from unlearning.report.sweep.words import as_number, flat, of_the_run, parse, sweeps

UNSET = "(not set)"
Columns = dict[str, tuple[str, ...]]
"""Key -> its value in every job, in the jobs' order."""


@dataclass(frozen=True)
class Key:
    """One swept key.

    Args:
        path: dotted.
        label: as much of its end as tells it from the others.
        values: the different ones, numbers in their order.
        also: keys that have another value whenever this one has.
    """

    path: str
    label: str
    values: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        return all(as_number(value) is not None for value in self.values if value != UNSET)

    @property
    def is_seed(self) -> bool:
        """Whether the key is a seed: runs that differ in seeds alone are repetitions, not
        settings."""
        return self.path.rpartition(".")[2] == "seed"


@dataclass(frozen=True)
class Swept:
    """What differs between the jobs, and what does not.

    Args:
        keys: swept ones without seeds.
        seeds: swept seeds.
        fixed: words that every job has.
        values: job -> key -> value, seeds included.
    """

    keys: tuple[Key, ...]
    seeds: tuple[Key, ...]
    fixed: tuple[str, ...]
    values: Mapping[str, Mapping[str, str]]

    def of(self, job: Job, keys: Sequence[Key]) -> tuple[str, ...]:
        """Returns the job's values of these keys."""
        return tuple(self.values[job.name][key.path] for key in keys)


def find_swept(sweep: SweepFolder) -> Swept:
    """Finds the swept keys by the jobs' recorded overrides, or else by comparing their
    configurations."""
    configured = {job.name: dict(flat(job.config)) for job in sweep.jobs}
    also: dict[str, list[str]] = {}
    if sweep.recorded:
        named = {job.name: dict(filter(None, map(parse, job.overrides))) for job in sweep.jobs}
        columns = _columns(sweep.jobs, named, configured)
    else:
        columns, also = _together(_columns(sweep.jobs, configured, {}))
    labels = _labels(columns)
    keys = [
        Key(path, labels[path], _sorted(column), tuple(also.get(path, ())))
        for path, column in columns.items()
    ]
    values = {
        job.name: {path: column[index] for path, column in columns.items()}
        for index, job in enumerate(sweep.jobs)
    }
    return Swept(
        keys=tuple(key for key in keys if not key.is_seed),
        seeds=tuple(key for key in keys if key.is_seed),
        fixed=_fixed(sweep, columns),
        values=values,
    )


def command(sweep: SweepFolder, swept: Swept, job: Job) -> str:
    """Returns the shell command that would start this one run."""
    words = of_the_run(job.overrides)
    if not sweep.recorded:
        values = swept.values[job.name]
        words = (*swept.fixed, *(f"{k}={v}" for k, v in values.items() if v != UNSET))
    return shlex.join(["unlearn", *words])


def _columns(
    jobs: Sequence[Job],
    named: Mapping[str, Mapping[str, str]],
    otherwise: Mapping[str, Mapping[str, str]],
) -> Columns:
    """Returns the keys that differ. A job of which nothing is known does not count as another
    value."""
    columns: Columns = {}
    for path in dict.fromkeys(key for values in named.values() for key in values):
        found = [named[job.name].get(path) for job in jobs]
        found = [
            otherwise.get(job.name, {}).get(path) if value is None else value
            for job, value in zip(jobs, found, strict=True)
        ]
        known = {v for job, v in zip(jobs, found, strict=True) if v or named[job.name]}
        if len(known) > 1:
            columns[path] = tuple(UNSET if value is None else value for value in found)
    return columns


def _together(columns: Columns) -> tuple[Columns, dict[str, list[str]]]:
    """Returns of keys that change together only the first, and which go with it.

    A choice of a group changes many keys at once, and a seed is handed down to others. Numbers that
    are all different, as a random search draws them, say nothing about one another.
    """
    kept: Columns = {}
    also: dict[str, list[str]] = {}
    # Short names first: `seed` stands for `data.forget.seed`, not the other way round.
    for path in sorted(columns, key=lambda path: path.count(".")):
        column = columns[path]
        leader = next((k for k, other in kept.items() if _go_together(column, other)), None)
        if leader is None:
            kept[path] = column
        else:
            also.setdefault(leader, []).append(path)
    return kept, also


def _go_together(column: Sequence[str], other: Sequence[str]) -> bool:
    if tuple(column) == tuple(other):
        return True
    pairs = len(set(zip(column, other, strict=True)))
    same_parts = pairs == len(set(column)) == len(set(other))
    all_numbers = all(as_number(value) is not None for value in (*column, *other))
    return same_parts and (pairs < len(column) or not all_numbers)


def _labels(paths: Iterable[str]) -> dict[str, str]:
    """Returns the last two parts of each key, or as many as it takes to tell them apart."""
    parts = {path: path.split(".") for path in paths}
    labels = {}
    for path, own in parts.items():
        length = min(2, len(own))
        while length < len(own) and any(
            other[-length:] == own[-length:] for p, other in parts.items() if p != path
        ):
            length += 1
        labels[path] = ".".join(own[-length:])
    return labels


def _sorted(column: Sequence[str]) -> tuple[str, ...]:
    """Sorts numbers by size, then words in the order of the jobs."""
    values = list(dict.fromkeys(column))
    numbers = [value for value in values if as_number(value) is not None]
    words = [value for value in values if as_number(value) is None]
    return (*sorted(numbers, key=float), *words)


def _fixed(sweep: SweepFolder, columns: Columns) -> tuple[str, ...]:
    if not sweep.recorded:
        typed = [word for word in of_the_run(sweep.words) if not sweeps(word)]
        return tuple(word for word in typed if (parse(word) or ("",))[0] not in columns)
    first = of_the_run(sweep.jobs[0].overrides)
    others = [set(job.overrides) for job in sweep.jobs[1:]]
    # Of a single job everything would be the same; what was swept is told by its words.
    return tuple(word for word in first if all(word in other for other in others))
