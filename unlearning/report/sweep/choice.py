"""Finds the best setting within a budget that the reader may change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearning.report.checks import ROUNDING
from unlearning.report.figures import write_number
from unlearning.report.sweep.front import (
    Budget,
    best,
    broken_was_measured,
    candidates,
    costs,
)
from unlearning.report.sweep.measures import RISE
from unlearning.report.sweep.rows import SettingRow, sort_key
from unlearning.report.sweep.setting_marks import starts
from unlearning.report.sweep.settings import Setting


@dataclass(frozen=True)
class Card:
    """A setting that is the best within some budget; numbers are as the page's script reads them.

    Args:
        rise: change of the retain perplexity, percent.
        rise_high: the upper end of its interval.
        broken: rise of broken answers, points.
        forgot: whether less was left than before unlearning; the best of a few settings may be
            one that did nothing.
        shown: the best within the budget that the page opens with.
    """

    row: SettingRow
    rise: str
    rise_high: str
    broken: str
    forgot: bool
    shown: bool


@dataclass(frozen=True)
class Choice:
    """All candidates, best first: the first that fits a budget is the best within it.

    Args:
        cheapest: what the smallest change of perplexity is, for a budget that nothing fits.
        broken_counts: whether broken answers were measured, and so can be budgeted for.
    """

    cards: tuple[Card, ...]
    cheapest: str
    broken_counts: bool

    @property
    def nothing_fits(self) -> bool:
        return not any(card.shown for card in self.cards)


def find_choice(
    settings: Sequence[Setting], rows: Mapping[int, SettingRow], budget: Budget
) -> Choice:
    """Collects every setting that is the best within some budget."""
    judged = broken_was_measured(settings)
    chosen = best(settings, budget)
    cards = []
    for setting in candidates(settings):
        rise, broken = costs(setting, judged)
        high = setting.rise.figure.high
        row = rows[setting.number]
        shown = setting is chosen
        keys = sort_key(rise), sort_key(high), sort_key(broken)
        cards.append(Card(row, *keys, _forgot(setting), shown))
    rises = [s.rise.value for s in settings if s.rank is not None and s.rise.value is not None]
    finite = [rise for rise in rises if math.isfinite(rise)]
    cheapest = write_number(min(finite), RISE.unit, True) if finite else ""
    return Choice(tuple(cards), cheapest, judged)


def _forgot(setting: Setting) -> bool:
    before, after = starts([setting], setting.forget).get("before"), setting.forgetting.value
    if before is None or after is None:
        return True  # not known to be otherwise
    return setting.forget.worse(after) < setting.forget.worse(before[1]) - ROUNDING
