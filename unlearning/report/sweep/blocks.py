"""One part of the sweep's page for each kind of forgetting."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from unlearning.report.panels import Panel
from unlearning.report.sweep.choice import Choice, find_choice
from unlearning.report.sweep.folder import Job, SweepFolder
from unlearning.report.sweep.front import Budget, pareto_front
from unlearning.report.sweep.measures import ALIKE, FORGETTING, HARM, RISE, Measure
from unlearning.report.sweep.over_keys import OverKeys, over_keys, shown_over_keys
from unlearning.report.sweep.pareto_plot import not_drawn, pareto_plot
from unlearning.report.sweep.rows import SettingRow, measured, setting_rows
from unlearning.report.sweep.setting_marks import starts
from unlearning.report.sweep.settings import Setting, group, repeated
from unlearning.report.sweep.swept import Swept


@dataclass(frozen=True)
class Block:
    """What the page says about one kind of forgetting.

    Args:
        sets: names of the prompt sets that it was measured on.
        retain_sets: of those that say what was kept.
        starts: the models before unlearning that the plot marks.
        front: settings that nothing beats, by their letters.
        rows: all settings; empty where each was run once, and the table of jobs says it all.
        repeated: jobs left out, since one with the same values and seed is there.
    """

    forget: Measure
    heading: str
    sets: str
    retain_sets: str
    settings: tuple[Setting, ...]
    measures: tuple[Measure, ...]
    panels: tuple[Panel, ...]
    starts: tuple[str, ...]
    front: tuple[SettingRow, ...]
    choice: Choice
    keys: OverKeys
    rows: tuple[SettingRow, ...]
    repeated: tuple[str, ...]

    @property
    def over(self) -> set[str]:
        """What the intervals of the means are over."""
        return {s.mean(measure).over for s in self.settings for measure in self.measures}

    @property
    def pairs(self) -> bool:
        """Whether a setting has two seeds, which are too few for an interval."""
        return any(len(setting.runs) == 2 for setting in self.settings)

    @property
    def seeds(self) -> tuple[int, int]:
        """The smallest and the largest number of runs of a setting."""
        counts = [len(setting.runs) for setting in self.settings]
        return min(counts), max(counts)


def find_blocks(sweep: SweepFolder, swept: Swept, budget: Budget) -> list[Block]:
    """Returns the parts of the page: harm, a book, both or none."""
    found = []
    for forget in FORGETTING:
        settings = group(sweep.jobs, swept, forget)
        if any(setting.forgetting.value is not None for setting in settings):
            found.append(_block(sweep, swept, forget, settings, budget))
    return found


def _block(
    sweep: SweepFolder, swept: Swept, forget: Measure, settings: list[Setting], budget: Budget
) -> Block:
    runs = [job for setting in settings for job in setting.runs]
    measures = [m for m in measured(runs) if m is forget or m not in FORGETTING]
    fronts = {c.key: pareto_front(settings, c) for c in (RISE, ALIKE) if c in measures}
    letters = _letters(settings, [s for front in fronts.values() for s in front])
    rows = {r.setting.number: r for r in setting_rows(settings, letters, measures, sweep, swept)}
    panels = []
    for cost in (RISE, ALIKE):
        front, at = fronts.get(cost.key, []), budget.rise if cost is RISE else None
        picture = pareto_plot(settings, front, cost, letters, at)
        if picture is not None:
            title = f"{forget.label} against {cost.in_words}"
            panels.append(Panel(title, picture, not_drawn(settings, cost)))
    return Block(
        forget=forget,
        heading="Harm" if forget is HARM else "The book",
        sets=_set_names(runs, forget),
        retain_sets=_set_names(runs, RISE),
        settings=tuple(settings),
        measures=tuple(measures),
        panels=tuple(panels),
        starts=tuple(starts(settings, forget)) if RISE.key in fronts else (),
        front=tuple(rows[number] for number in letters),
        choice=find_choice(settings, rows, budget),
        keys=over_keys(settings, swept.keys, shown_over_keys(measures, forget)),
        rows=tuple(rows.values()) if any(len(s.runs) > 1 for s in settings) else (),
        repeated=tuple(job.name for job in repeated(settings)),
    )


def _letters(settings: Sequence[Setting], on_fronts: Sequence[Setting]) -> dict[int, str]:
    """Names the settings on any of the fronts A, B, ..., from the one that costs least."""
    chosen = {s.number: s for s in settings if s in on_fronts}

    def cheapest(setting: Setting) -> tuple[bool, float, int]:
        rise = setting.rise.value
        return rise is None, rise or 0.0, setting.number

    ordered = sorted(chosen.values(), key=cheapest)
    alphabet = string.ascii_uppercase
    return {
        setting.number: alphabet[index % 26] + (str(index // 26) if index >= 26 else "")
        for index, setting in enumerate(ordered)
    }


def _set_names(runs: Sequence[Job], measure: Measure) -> str:
    names = (name for job in runs for name in measure.sets(job.metrics))
    return ", ".join(dict.fromkeys(names))
