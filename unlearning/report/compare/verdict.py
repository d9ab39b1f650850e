"""The verdict of a comparison in sentences, or what is still missing for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unlearning.report.checks import ROUNDING
from unlearning.report.compare.arms import Arm
from unlearning.report.compare.differences import Difference
from unlearning.report.compare.study import Study
from unlearning.report.figures import write_interval, write_number
from unlearning.report.sweep.measures import Measure
from unlearning.report.sweep.settings import Mean

Means = Mapping[tuple[str, str], Mean]


def left_to_do(study: Study, arms: Sequence[Arm]) -> list[str]:
    """Says what there still has to be before the methods can be judged."""
    missing = []
    # An earlier start may have given more trials to those that it came to.
    wanted = max([study.n_trials, *study.told.values()])
    for arm in arms:
        told = study.told.get(arm.method)
        if told is None:
            missing.append(f"{arm.method}: its search of {wanted} trials has not ended.")
        elif told < wanted:
            missing.append(
                f"{arm.method}: {told} trials have ended, and others had {wanted}. Go on with "
                f"hydra.sweeper.n_trials={wanted}."
            )
        elif arm.picked is None:
            missing.append(
                f"{arm.method}: none of its trials has all figures of the goal and the budget, so "
                "that no setting of it can be tested."
            )
        elif not arm.tested:
            back = f", {len(arm.reverted)} ended where they began" if arm.reverted else ""
            missing.append(
                f"{arm.method}: {len(arm.runs)} of {arm.wanted} tests of its setting have "
                f"figures{back}."
            )
    return missing


def verdict(
    study: Study,
    arms: Sequence[Arm],
    main: Sequence[Measure],
    means: Means,
    pairs: Sequence[Difference],
) -> list[str]:
    """Says which method forgot most on the test prompts, and from which it cannot be told apart.

    Methods without a trial within the budget stand apart: they are named, and do not compete.
    """
    goal = main[0]
    inside = [arm for arm in arms if arm.picked is not None and arm.picked.within]
    apart = [arm.method for arm in arms if arm not in inside]
    said = []
    known = [
        (goal.worse(value), arm)
        for arm in inside
        if (value := means[arm.method, goal.key].value) is not None
    ]
    if known:
        _, best = min(known, key=lambda each: each[0])
        said.append(_most(best.method, main, means))
        said += _against(best.method, [arm.method for _, arm in known], goal, pairs)
    else:
        said.append("No method has a trial within the budget, so that none is named the best.")
    if apart:
        said.append(
            f"No trial of {_listed(apart)} was within the budget: tested was the one nearest to it."
        )
    return said + _past(study, arms, main, means)


def _most(method: str, main: Sequence[Measure], means: Means) -> str:
    figures = "; ".join(_figure(measure, means[method, measure.key]) for measure in main)
    return f"{method} forgot most of those within the budget: {figures}."


def _against(
    best: str, others: Sequence[str], goal: Measure, pairs: Sequence[Difference]
) -> list[str]:
    """Says from which others the best can be told apart by how much was forgotten."""
    differs: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for other in others:
        for pair in pairs:
            if pair.measure.key == goal.key and pair.is_of(best, other) and other != best:
                differs[pair.differs].append(other)
    said = []
    if differs[True]:
        said.append(f"It differs from {_listed(differs[True])} by more than chance explains.")
    if differs[False]:
        said.append(f"It cannot be told apart from {_listed(differs[False])}.")
    if differs[None]:
        said.append(f"Whether it differs from {_listed(differs[None])} is not known.")
    return said


def _past(study: Study, arms: Sequence[Arm], main: Sequence[Measure], means: Means) -> list[str]:
    """Says which settings were within the budget on the validation prompts and are not here."""
    said = []
    for limit, measure in zip(study.budget, main[1:], strict=True):
        past = [
            f"{arm.method} ({write_number(value, measure.unit, measure.difference)})"
            for arm in arms
            if arm.picked is not None
            and arm.picked.within
            and (value := means[arm.method, measure.key].value) is not None
            and limit.excess(value) > ROUNDING
        ]
        if past:
            said.append(
                f"On the test prompts {_listed(past)} went past the budget, {limit.sign} "
                f"{limit.bound:g} in {measure.in_words}."
            )
    return said


def _figure(measure: Measure, mean: Mean) -> str:
    value = write_number(mean.value, measure.unit, measure.difference)
    interval = write_interval(mean.figure, measure.unit, measure.difference)
    return f"{measure.in_words} {value}" + (f" ({interval})" if interval else "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
