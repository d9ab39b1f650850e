"""Draws the plots of the report: intervals, losses, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unlearning import names_0_4
from unlearning.report.figures import (
    Unit,
    lookup,
    number,
    plain,
    prompt_sets,
    section,
    write_number,
)
from unlearning.report.plots import Line, Pair, interval_chart, line_chart
from unlearning.report.run_folder import Curve, finite
from unlearning.report.specs import front, spec
from unlearning.report.stages import stages


@dataclass(frozen=True)
class Panel:
    title: str
    picture: Markup
    note: str = ""
    legend: tuple[tuple[str, str], ...] = ()


_PLOTTED: dict[str, tuple[str, ...]] = {
    "bleu_to_target": ("copyright",),
    "extraction_strength": ("copyright",),
    "harmful_rate": ("harmful", "retain", "related", ""),
    "broken_rate": ("harmful", "copyright", "retain", "related", ""),
    "bleu_to_original": ("retain", "related"),
    "perplexity": ("retain", "related"),  # of the others it may rise a hundredfold, as it should
    "rouge_accuracy": ("retain", "related"),
    "kept_right": ("related",),
}
"""Metrics of the paper's experiments that are drawn, and on which kinds of prompt set. Of any other
set, what it puts in front is drawn."""


def interval_panels(metrics: Mapping[str, Any]) -> list[Panel]:
    """Draws every model's figures with their intervals, one panel per key metric that was
    measured anywhere."""
    panels = []
    for metric, sets in _drawn(metrics).items():
        pairs = [_pair(metrics, name, metric) for name in sets]
        pairs = [p for p in pairs if any(f.value is not None for _, f in p.stages)]
        if pairs:
            shown = [spec(metrics, pair.name, metric) for pair in pairs]
            unit, label = shown[0].unit, shown[0].label
            said = "; ".join(f"{pair.name}: {_said(metrics, pair, unit)}" for pair in pairs)
            picture = interval_chart(pairs, unit, f"{label}. {said}.")
            wanted = {each.note for each in shown}
            panels.append(Panel(label, picture, wanted.pop() if len(wanted) == 1 else ""))
    return panels


def _drawn(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Groups prompt sets by the metric that is drawn for them."""
    kinds = prompt_sets(metrics)
    found = {m: [n for n, k in kinds.items() if k in of] for m, of in _PLOTTED.items()}
    for name in kinds:
        for metric in front(metrics, name) or _measured(metrics, name):
            own = metric not in _PLOTTED and metric not in names_0_4.DECLARED
            if own or (not kinds[name] and name not in found.setdefault(metric, [])):
                found.setdefault(metric, []).append(name)
    return found


def _measured(metrics: Mapping[str, Any], name: str) -> list[str]:
    last = stages(metrics)[-1].key
    keys = (key.rpartition("/") for key in section(metrics, last))
    return [metric for of, _, metric in keys if of == name]


def _pair(metrics: Mapping[str, Any], name: str, metric: str) -> Pair:
    figures = ((stage.css, lookup(metrics, stage.key, name, metric)) for stage in stages(metrics))
    return Pair(name, tuple(figures))


def _said(metrics: Mapping[str, Any], pair: Pair, unit: Unit) -> str:
    """Names the last model where a metric was not measured for it."""
    labels = [stage.label.lower() for stage in stages(metrics)]
    last = len(labels) - 1
    told = [
        f"{label} {write_number(shown.value, unit)}"
        for number, (label, (_, shown)) in enumerate(zip(labels, pair.stages, strict=True))
        if number == last or shown.value is not None
    ]
    return ", ".join(told)


def loss_panels(losses: Mapping[str, Curve]) -> list[Panel]:
    """Draws every unweighted loss on its own scale, and the learning rate last."""
    raw = [n for n in losses if not _is_total(n) and not n.endswith("_weighted")]
    ordered = sorted(raw, key=lambda name: name.startswith("lr-"))
    return [_curve_panel(name, losses[name], _style(name, losses)) for name in ordered]


def weighted_panel(losses: Mapping[str, Curve]) -> Panel | None:
    """Draws the weighted terms and their total on one scale."""
    weighted = [name for name in losses if name.endswith("_weighted")]
    total = [name for name in losses if _is_total(name)]
    if not weighted and not total:
        return None
    lines = [Line(_title(n), losses[n], _style(n, losses)) for n in weighted]
    lines += [Line("total", losses[name], "total") for name in total]
    description = "Weighted loss over the training step. " + " ".join(
        _course(line.name, line.points) for line in lines
    )
    legend = tuple((line.name, line.style) for line in lines)
    picture = line_chart(lines, description, height=200)
    lost = "; ".join(filter(None, (_lost(line.name, line.points) for line in lines)))
    return Panel("Weighted parts and total", picture, lost, legend)


def reliability_panel(metrics: Mapping[str, Any]) -> Panel | None:
    """Draws the classifier's calibration: how often it was right that a comment is harmful."""
    bins = section(metrics, "classifier").get("reliability")
    rows = [row for row in bins if isinstance(row, Mapping)] if isinstance(bins, list) else []
    pairs = [(number(row.get("predicted")), number(row.get("observed"))) for row in rows]
    points = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not points:
        return None
    said = "; ".join(f"{x:.2f} predicted, {y:.2f} observed" for x, y in points)
    lines = [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "ideal"), Line("judge", points, "part0")]
    picture = line_chart(lines, f"Calibration by bin: {said}.")
    legend = (("predicted probability (across) to observed share (up)", "part0"),)
    return Panel("Calibration", picture, "", (*legend, ("perfect", "ideal")))


def _style(name: str, losses: Mapping[str, Curve]) -> str:
    """Returns the colour of a term, the same weighted and not."""
    part = name.removesuffix("_weighted")
    weighted = [column for column in losses if column.endswith("_weighted")]
    # Weighted parts share a picture, so they come first and their colours differ.
    columns = (column.removesuffix("_weighted") for column in [*weighted, *losses])
    parts = list(dict.fromkeys(columns))
    return f"part{parts.index(part) % 4}"


def _is_total(name: str) -> bool:
    return name in ("total", "loss")


def _title(name: str) -> str:
    if name.startswith("lr-"):
        return "learning rate"
    return name.removesuffix("_weighted").replace("_", " ")


def _curve_panel(name: str, curve: Curve, style: str) -> Panel:
    title = _title(name)
    picture = line_chart([Line(title, curve, style)], _course(title, curve))
    ends = [value for _, value in finite(curve)]
    note = f"{plain(ends[0])} → {plain(ends[-1])}" if ends else ""
    return Panel(title, picture, "; ".join(filter(None, (note, _lost("", curve)))))


def _course(name: str, curve: Curve) -> str:
    points = finite(curve)
    if not points:
        return f"{name}: no finite value."
    (start, first), (end, last) = points[0], points[-1]
    return f"{name}: {plain(first)} at step {start:g}, {plain(last)} at step {end:g}."


def _lost(name: str, curve: Curve) -> str:
    """Notes values that are not finite, which cannot be drawn."""
    count = len(curve) - len(finite(curve))
    return f"{name} {count} values not finite, not drawn".strip() if count else ""
