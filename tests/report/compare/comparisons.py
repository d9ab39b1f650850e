"""Folders of comparisons as the sweeper leaves them, with figures made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

RATE = "objective.retain.weight"
Trials = Sequence[tuple[float | None, float | None]]
Tests = Sequence[tuple[float, float] | None]


def metrics(harm: float, rise: float, split: str) -> dict[str, Any]:
    """A run on one split: harmful rate, and rise of the retain perplexity in percent."""
    tried = split == "validation"
    forget, retain = (f"{k}_{'validation' if tried else 'heldout'}" for k in ("harmful", "retain"))
    return {
        "after": {
            f"{forget}/harmful_rate": {"value": harm, "low": harm - 0.1, "high": harm + 0.1},
            f"{retain}/perplexity": {"value": 4 * (1 + rise / 100)},
        },
        "change": {f"{retain}/perplexity_relative": {"value": rise, "low": rise - 1, "high": 99}},
        "prompt_sets": {
            forget: {"kind": "harmful", "split": split},
            retain: {"kind": "retain", "split": split},
        },
    }


def write_comparison_folder(
    folder: Path,
    methods: Mapping[str, tuple[Trials, Tests]],
    told: Mapping[str, int] | None = None,
    prompts: Mapping[str, np.ndarray] | None = None,
    **study: Any,
) -> Path:
    """Writes jobs, `sweep.json` and the study.

    Args:
        methods: harm and rise of each trial, (None, None) for one that failed; then those of the
            test with each seed, None for one that is missing.
        told: how many trials of each method ended; by default all.
        prompts: of a method, harmful answers per test prompt [seeds, prompts], whose resamples are
            kept; the test's harm is their mean.
    """
    jobs: dict[str, Any] = {}
    for method, (trials, tests) in methods.items():
        words = [f"method={method}", "experiment=demo"]
        for number, (harm, rise) in enumerate(trials):
            tried = [f"{RATE}={number + 1}.5", *words, "evaluation=validation", "seed=0"]
            found = None if harm is None else metrics(harm, rise, "validation")
            _job(folder, jobs, tried, found)
        chosen = _best(trials)
        for seed, pair in enumerate(tests, 1):
            own = [f"{RATE}={chosen + 1}.5", *words, f"seed={seed}"]
            if pair is not None:
                run = _job(folder, jobs, own, metrics(*pair, "test"))
                if prompts and method in prompts:
                    _resamples(run, prompts[method][seed - 1])
    record = {"version": "1.0", "overrides": ["hydra/sweeper=compare"], "jobs": jobs}
    (folder / "sweep.json").write_text(json.dumps(record), encoding="utf-8")
    counts = {method: len(trials) for method, (trials, _) in methods.items()}
    content = {
        "space": {method: {RATE: "interval(0.5,30)"} for method in methods},
        "n_trials": max(counts.values()), "seed": 0, "seeds": [1, 2, 3], "steps": 150,
        "validation": "validation", "forget": "minimize after.harmful_validation/harmful_rate",
        "budget": ["change.retain_validation/perplexity_relative <= 5"],
        "told": counts if told is None else told, **study,
    }  # fmt: skip
    made = json.dumps({"study": content}).encode()
    from unlearning.files.made import Made

    Made(folder).write({"comparison.json": made}, recognised=lambda _: False)
    return folder


def _best(trials: Trials) -> int:
    """The trial that forgets most within 5 %, or that costs least: as the rule says it, again."""
    known = [(h, r, n) for n, (h, r) in enumerate(trials) if h is not None and r is not None]
    inside = [(h, n) for h, r, n in known if r <= 5]
    return min(inside)[1] if inside else min((r, n) for _, r, n in known)[1] if known else 0


def _job(folder: Path, jobs: dict[str, Any], words: list[str], found: Any) -> Path:
    run = folder / str(len(jobs))
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "demo"}), encoding="utf-8")
    if found is not None:
        (run / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
        (run / "report.html").write_text("<!doctype html>", encoding="utf-8")
    status = "failed" if found is None else "finished"
    jobs[str(len(jobs))] = {"overrides": words, "status": status, "exit_code": 0, "seconds": 9.0}
    return run


def _resamples(run: Path, harmful: np.ndarray) -> None:
    """Keeps the rate in 500 resamples of the prompts, the same ones in every run."""
    draws = np.random.default_rng(0).integers(len(harmful), size=(500, len(harmful)))
    arrays = {
        "after/harmful_heldout/harmful_rate": harmful[draws].mean(axis=1).astype(np.float32),
        "prompts/harmful_heldout": np.array("the same"),
    }
    np.savez_compressed(run / "resamples.npz", **arrays)
