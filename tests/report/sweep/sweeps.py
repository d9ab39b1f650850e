"""Sweep folders as a launcher leaves them, with figures that follow simple laws."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

FORGET, RETAIN = "objective.forget.weight", "objective.retain.weight"


def estimate(value: float | None, half: float = 0.0, n: int = 80) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def harm_metrics(
    harm: float | None, rise: float | None, alike: float | None = 90.0, broken: float | None = 0.0
) -> dict[str, Any]:
    """A run about harm; `rise` may be infinite: the perplexity is then null, as in a real file."""
    lost = rise is not None and math.isinf(rise)
    after = None if rise is None or lost else 4.0 * (1 + rise / 100)
    stages: dict[str, dict[str, Any]] = {
        "before": {
            "harmful_train/harmful_rate": estimate(0.9, 0.05),
            "harmful_train/broken_rate": estimate(0.0),
            "harmful_heldout/harmful_rate": estimate(0.8, 0.08),
            "harmful_heldout/broken_rate": estimate(0.0),
            "retain_heldout/perplexity": estimate(4.0, 0.2),
            "retain_heldout/broken_rate": estimate(0.0),
        },
        "after": {
            "harmful_train/harmful_rate": estimate(0.0),
            "harmful_train/broken_rate": estimate(0.0),
            "harmful_heldout/harmful_rate": estimate(harm, 0.06),
            "harmful_heldout/broken_rate": estimate(broken, 0.02),
            "retain_heldout/bleu_to_original": estimate(alike, 3.0),
            "retain_heldout/broken_rate": estimate(0.0),
        },
        "change": {
            "harmful_heldout/harmful_rate": estimate(None if harm is None else harm - 0.8, 0.1),
            "harmful_train/broken_rate": estimate(0.0),
            "harmful_heldout/broken_rate": estimate(broken, 0.02),
            "retain_heldout/broken_rate": estimate(0.0),
        },
    }
    if rise is not None:
        stages["after"]["retain_heldout/perplexity"] = estimate(after, 0.2)
        stages["change"]["retain_heldout/perplexity_relative"] = estimate(
            None if lost else rise, 1.5
        )
    return {
        **stages,
        "prompt_sets": {
            "harmful_train": "harmful", "harmful_heldout": "harmful", "retain_heldout": "retain",
        },
        "steps": 150, "stop_reason": None, "notes": [], "peak_memory_mb": 900.0,
        "seconds": {"unlearn": 20.0, "evaluate after": 3.0},
    }  # fmt: skip


def book_metrics(bleu: float, rise: float, original: float = 0.5) -> dict[str, Any]:
    """A run about a book, which its original model continues with a BLEU of `original`."""

    def stage(bleu_to_book: float, perplexity: float, alike: float) -> dict[str, Any]:
        return {
            "book_train/bleu_to_target": estimate(bleu_to_book, 0.2),
            "book_heldout/bleu_to_target": estimate(0.6, 0.2),
            "book_train/broken_rate": estimate(0.0),
            "book_heldout/broken_rate": estimate(0.0),
            "retain_heldout/broken_rate": estimate(0.0),
            "retain_heldout/perplexity": estimate(perplexity, 0.1),
            "retain_heldout/bleu_to_original": estimate(alike, 2.0),
        }

    changes = {
        "retain_heldout/perplexity_relative": estimate(rise, 2.0),
        **{
            f"{name}/broken_rate": estimate(0.0)
            for name in ("book_train", "book_heldout", "retain_heldout")
        },
    }
    return {
        "original": stage(original, 20.0, 100.0),
        "before": stage(80.0, 25.0, 40.0),
        "after": stage(bleu, 20.0 * (1 + rise / 100), 70.0),
        "change": {},
        "change_from_original": changes,
        "prompt_sets": {
            "book_train": "copyright", "book_heldout": "copyright", "retain_heldout": "retain",
        },
        "seconds": {"finetune": 60.0, "unlearn": 30.0},
    }  # fmt: skip


def law(forget: float, retain: float, seed: int = 0) -> dict[str, Any]:
    """More weight on forgetting: less harm, and perplexity that the retain term holds down."""
    noise = random.Random(f"{forget} {retain} {seed}")
    harm = min(1.0, max(0.0, 0.8 * math.exp(-6 * forget) + noise.gauss(0, 0.03)))
    rise = 60 * forget**1.5 / (0.2 + retain / 8) + noise.gauss(0, 0.7)
    return harm_metrics(round(harm, 4), round(rise, 3), round(max(20.0, 99 - rise), 2))


def book_law(forget: float, retain: float, seed: int = 0) -> dict[str, Any]:
    noise = random.Random(f"book {forget} {retain} {seed}")
    bleu = 80 * math.exp(-60 * forget) + abs(noise.gauss(0, 0.3))
    return book_metrics(round(bleu, 3), round(180 * forget / (retain / 10) + noise.gauss(0, 1), 3))


Job = tuple[list[str], "dict[str, Any] | None", str]
"""Overrides, metrics (None: there are none) and status."""


def write_sweep(
    folder: Path,
    jobs: Sequence[Job],
    record: bool = True,
    words: Sequence[str] = (),
    config: Callable[[int, Mapping[str, str]], dict[str, Any]] | None = None,
) -> Path:
    """Write the folder of a sweep.

    Args:
        record: with sweep.json, as our launcher leaves it; without, as others do.
        config: job number and overrides -> its config.yaml.
    """
    entries = {}
    for number, (overrides, metrics, status) in enumerate(jobs):
        run = folder / str(number)
        run.mkdir(parents=True, exist_ok=True)
        values = dict(word.split("=", 1) for word in overrides)
        text = (config or plain_config)(number, values)
        (run / "config.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")
        (run / "job.log").write_text("what it printed\n", encoding="utf-8")
        if metrics is not None:
            (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
            (run / "report.html").write_text("<!doctype html><title>run</title>", encoding="utf-8")
        code = {"finished": 0, "failed": 1, "interrupted": 130}.get(status)
        seconds = 95.0 if number == 0 else 31.5 if status != "pending" else None
        entries[str(number)] = {
            "overrides": overrides, "status": status, "exit_code": code, "seconds": seconds,
            "objectives": None,
        }  # fmt: skip
    if record:
        found = {"version": "1.0", "overrides": list(words), "jobs": entries}
        (folder / "sweep.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def plain_config(number: int, values: Mapping[str, str]) -> dict[str, Any]:
    """A composed configuration in which the overrides are where they belong."""
    config: dict[str, Any] = {
        "name": "demo",
        "description": "Mildly harmful advice, forgotten by a tiny model.",
        "seed": 0,
        "data": {"forget": {"_target_": "unlearning.data.SyntheticDataModule", "seed": 0}},
        "objective": {"forget": {"weight": 0.5}, "retain": {"weight": 1.0}},
        "logger": {"save_dir": f"runs/sweep/{number}"},
        "sweep": {"name": "weights", "job": " ".join(values.values())},
    }
    for path, text in values.items():
        node = config
        *parents, last = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = yaml.safe_load(text)
    config["data"]["forget"]["seed"] = config["seed"]
    return config


def grid(
    forget: Sequence[float] = (0.1, 0.25, 0.5),
    retain: Sequence[float] = (1.0, 5.0, 15.0),
    seeds: Sequence[int] = (0, 1, 2),
    metrics: Callable[[float, float, int], dict[str, Any]] = law,
    experiment: str = "demo",
) -> list[Job]:
    return [
        (
            [f"experiment={experiment}", f"{FORGET}={f}", f"{RETAIN}={r}", f"seed={s}"],
            metrics(f, r, s),
            "finished",
        )
        for f, r, s in product(forget, retain, seeds)
    ]
