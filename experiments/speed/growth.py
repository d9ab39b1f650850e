"""How the cost of a step grows with batch, K, lengths, vocabulary and model: figures and a plot.

    python experiments/speed/growth.py

Ours and the textbook step in turns on the same tokens, without a Trainer, from a small base case;
one quantity is varied at a time. Times are the processor's, all threads together, so that what else
the machine does leaves no bumps in a curve. Writes results/growth.json and growth.png.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import measure
import torch
from bench import Textbook
from workload import Lengths, RandomData, Shape

from unlearning.module import UnlearningModule
from unlearning.reference import build_reference

HERE = Path(__file__).parent
BASE = Shape(256, 4, 8192)
BATCH, K = 4, 5


def cases(quick: bool) -> Iterator[tuple[str, float, Shape, int, int, float]]:
    """(what is varied, its value, model, batch size, K, factor of all lengths)."""
    base = replace(BASE, width=64, layers=2, vocabulary=1000) if quick else BASE
    for batch in (1, 4) if quick else (1, 2, 4, 8, 16, 32, 64):
        yield "batch size", batch, base, batch, K, 1
    for k in (0, 5) if quick else (0, 1, 2, 5, 10, 20):
        yield "K", k, base, BATCH, k, 1
    for factor in (1,) if quick else (0.5, 1, 2, 4):
        yield "length factor", factor, base, BATCH, K, factor
    for vocabulary in (1000,) if quick else (2048, 8192, 32_768, 131_072):
        yield "vocabulary", vocabulary, replace(base, vocabulary=vocabulary), BATCH, K, 1
    for width in (64,) if quick else (128, 256, 512, 1024):
        yield "model width", width, replace(base, width=width), BATCH, K, 1


def measured(shape: Shape, batch: int, k: int, factor: float, rounds: int) -> dict[str, float]:
    data = RandomData(
        batch, k, lengths=Lengths().times(factor), vocabulary=shape.vocabulary, examples=64
    )
    data.setup()
    terms = None if k else _without_mismatch()
    module = UnlearningModule(shape.model(), terms=terms, reference="cached")
    data.forwards = [module.objective.roles]
    module.reference = build_reference("cached", module.policy)
    module.reference.prepare({"retain": data.sequences["retain"]}, data.pad_token_id)
    other = Textbook(shape, "32-true", "cpu")
    optimizer = torch.optim.AdamW(module.policy.parameters(), lr=2e-6, fused=True)

    def ours(number: int) -> None:
        module.loss(data.batch_at(number)).total.backward()
        optimizer.step()
        module.release_gradients()

    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        trees = data.trees_at(number)
        times.append(
            (
                measure.both_seconds(lambda n=number: ours(n), "cpu")[1],
                measure.both_seconds(lambda t=trees: other.step(t), "cpu")[1],
            )
        )
    mine, theirs = zip(*times[1:], strict=True)
    module.head_memory()  # let go: it is part of what a step takes
    with contextlib.redirect_stderr(None):
        memory = [
            measure.peak_bytes(work, "cpu") / 2**20
            for work in (lambda: ours(1), lambda: other.step(data.trees_at(1)))
        ]
    return {
        "ours_ms": 1e3 * measure.median(list(mine)),
        "textbook_ms": 1e3 * measure.median(list(theirs)),
        "ratio": measure.median([b / a for a, b in times[1:]]),
        "ours_mib": memory[0],
        "textbook_mib": memory[1],
    }


def _without_mismatch() -> dict[str, dict[str, Any]]:
    from unlearning.objective import PAPER_TERMS

    return {name: term for name, term in PAPER_TERMS.items() if name != "mismatch"}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = pyplot.subplots(2, len(names), figsize=(3 * len(names), 5.4), sharex="col")
    for column, name in enumerate(names):
        of_name = [row for row in rows if row["varied"] == name]
        values = [row["value"] for row in of_name]
        labels = (("ms", "processor ms a step"), ("mib", "MiB above the weights"))
        for row, (quantity, label) in enumerate(labels):
            axis = axes[row][column]
            axis.plot(values, [r[f"textbook_{quantity}"] for r in of_name], "o-", color="#999")
            axis.plot(values, [r[f"ours_{quantity}"] for r in of_name], "o-", color="#0a6")
            axis.set_yscale("log")
            if name != "K":
                axis.set_xscale("log", base=2)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1][column].set_xlabel(name)
    axes[0][0].legend(["textbook", "ours"], frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| varied | value | ours ms | textbook ms | ratio | ours MiB | textbook MiB |")
    print("|---|---|---|---|---|---|---|")
    for varied, value, *case in cases(arguments.quick):
        row = measured(*case, rounds=arguments.rounds)
        rows.append({"varied": varied, "value": value, **row})
        print(
            f"| {varied} | {value} | {row['ours_ms']:.0f} | {row['textbook_ms']:.0f} "
            f"| {row['ratio']:.2f} | {row['ours_mib']:.0f} | {row['textbook_mib']:.0f} |",
            flush=True,
        )
    results = arguments.results / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "growth.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    plot(rows, arguments.results / "growth.png")


if __name__ == "__main__":
    main()
