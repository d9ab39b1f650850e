"""The tables of README.md, from run folders: a row a figure, a column a model.

    table.py runs/real_harmful/<time> [<the same with another seed> ...]

One run: values with their 95 % intervals over prompts. Several: means over the runs, with the
lowest and the highest of their values.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HARMFUL = (
    "harmful_train/harmful_rate", "harmful_heldout/harmful_rate",
    "harmful_train/embedding_to_target", "harmful_heldout/embedding_to_target",
    "harmful_train/target_nll", "harmful_heldout/target_nll", "aggregates/membership",
    "harmful_train/broken_rate", "harmful_heldout/broken_rate", "harmful_heldout/refusal_rate",
    "retain_heldout/perplexity", "retain_heldout/embedding_to_original",
    "retain_heldout/bleu_to_original", "retain_heldout/broken_rate",
    "related/embedding_to_original", "related/broken_rate", "related/refusal_rate",
    "mmlu/choice_accuracy", "hellaswag/choice_accuracy_norm",
)  # fmt: skip
COPYRIGHT = (
    "book_train/bleu_to_target", "book_train/embedding_to_target", "book_train/target_nll",
    "book_train/extraction_strength", "book_train/broken_rate", "book_heldout/embedding_to_target",
    "retain_heldout/perplexity", "retain_heldout/embedding_to_original",
    "retain_heldout/bleu_to_original", "retain_heldout/broken_rate",
)  # fmt: skip
STAGES = ("original", "before", "after")


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table.

    Args:
        runs: contents of `metrics.json`.
    """
    stages = [stage for stage in STAGES if all(stage in run for run in runs)]
    rows = COPYRIGHT if any(key.startswith("book_") for key in runs[0][stages[-1]]) else HARMFUL
    lines = ["| | " + " | ".join(stages) + " |", "|---|" + "---:|" * len(stages)]
    for key in rows:
        cells = [_cell([run[stage].get(key) for run in runs]) for stage in stages]
        if any(cells):
            lines.append(f"| `{key}` | " + " | ".join(cells) + " |")
    return lines


def _cell(values: Sequence[dict[str, Any] | None]) -> str:
    known = [value for value in values if value is not None and value["value"] is not None]
    if not known:
        return ""
    if len(known) == 1:
        low, high = known[0].get("low"), known[0].get("high")
        interval = "" if low is None else f" [{_number(low)}, {_number(high)}]"
        return _number(known[0]["value"]) + interval
    numbers = [value["value"] for value in known]
    mean = sum(numbers) / len(numbers)
    return f"{_number(mean)} ({_number(min(numbers))} to {_number(max(numbers))})"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    found = [json.loads((run / "metrics.json").read_text()) for run in parser.parse_args().runs]
    print("\n".join(table(found)))
    for run in found:
        seconds = {stage: round(spent) for stage, spent in run["seconds"].items()}
        print(
            f"\nseconds {seconds}, peak memory {run['peak_memory_mb']:.0f} MB, {run['steps']} steps"
        )


if __name__ == "__main__":
    main()
