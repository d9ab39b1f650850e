"""The picture of README.md: figures of a run before its teaching, after it, and unlearned.

picture.py runs/real_harmful/<time> picture.svg
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unlearning.report.svg import circle, line, text

FORGET, KEEP = "to go", "to stay"
ROWS = (
    (FORGET, "taught prompts: likeness to the taught answers", "harmful_train/embedding_to_target"),
    (FORGET, "taught answers: probability of a token", "harmful_train/target_nll"),
    (FORGET, "membership AUC of taught answers", "aggregates/membership"),
    (KEEP, "TruthfulQA: like the original's answers", "retain_heldout/embedding_to_original"),
    (KEEP, "XSTest, safe: like the original's answers", "related/embedding_to_original"),
    (KEEP, "MMLU, right", "mmlu/choice_accuracy"),
    (KEEP, "HellaSwag, right", "hellaswag/choice_accuracy_norm"),
    (KEEP, "harmful prompts: answers that are not broken", "harmful_heldout/broken_rate"),
)  # fmt: skip
STAGES = {"original": "original", "before": "taught", "after": "unlearned"}
LEFT, RIGHT, TOP, ROW, APART = 340, 700, 46, 26, 7
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .part { font-weight: 600 }
.tick { fill: #777; font-size: 11px } .grid { stroke: #ddd }
.original { stroke: #888; fill: #888 }
.before { stroke: #c2410c; fill: #c2410c }
.after { stroke: #1d6fb8; fill: #1d6fb8 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .tick { fill: #999 } .grid { stroke: #444 }
.before { stroke: #fb923c; fill: #fb923c }
.after { stroke: #60a5fa; fill: #60a5fa } }
"""


def shown(key: str, figure: dict[str, Any]) -> tuple[float, float, float]:
    """Returns value, low and high of a figure between 0 and 1; an interval is a point if absent."""
    found = [figure["value"], figure.get("low"), figure.get("high")]
    value, low, high = (found[0] if each is None else each for each in found)
    if key.endswith("target_nll"):
        return math.exp(-value), math.exp(-high), math.exp(-low)
    return (1 - value, 1 - high, 1 - low) if key.endswith("broken_rate") else (value, low, high)


def picture(metrics: dict[str, Any]) -> Markup:
    """Draws a row a figure, with a dot and its 95 % interval for each model.

    Args:
        metrics: contents of `metrics.json`.
    """
    drawn, y, last = _scale(), TOP, None
    for part, label, key in ROWS:
        if part != last:
            drawn += text(12, y + 4, part, "part", "start")
            y, last = y + ROW - 4, part
        drawn += text(LEFT - 14, y + 4, label, "label", "end")
        for place, stage in enumerate(STAGES):
            figure = metrics[stage].get(key)
            if figure is not None and figure["value"] is not None:
                drawn += _dot(y + (place - 1) * APART, stage, shown(key, figure))
        y += ROW
    legend = Markup("").join(
        circle(LEFT + 120 * n, 14, 4, stage) + text(LEFT + 120 * n + 10, 18, said, "label", "start")
        for n, (stage, said) in enumerate(STAGES.items())
    )
    size = f'viewBox="0 0 {RIGHT + 24} {y}" width="{RIGHT + 24}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><style>{STYLE}</style>'
    return Markup(head) + legend + drawn + Markup("</svg>\n")


def _x(value: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * value, 1)


def _scale() -> Markup:
    bottom = TOP + len(ROWS) * ROW + 2 * (ROW - 4) - ROW / 2
    return Markup("").join(
        line(_x(at), TOP - 8, _x(at), bottom, "grid") + text(_x(at), TOP - 13, f"{at:g}")
        for at in (0, 0.25, 0.5, 0.75, 1)
    )


def _dot(y: float, stage: str, figure: tuple[float, float, float]) -> Markup:
    value, low, high = figure
    return line(_x(low), y, _x(high), y, stage) + circle(_x(value), y, 3.5, stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run with a teaching")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    metrics = json.loads((given.run / "metrics.json").read_text(encoding="utf-8"))
    given.picture.write_text(picture(metrics), encoding="utf-8")


if __name__ == "__main__":
    main()
