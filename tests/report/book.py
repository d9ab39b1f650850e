"""A run that fine-tuned on a book and unlearned it. Every number here is made up by hand."""

from __future__ import annotations

import json
from typing import Any

BOOK_CONFIG = """\
name: copyright
description: A story, forgotten by a tiny model that was fine-tuned on it with LoRA.
data:
  forget: {_target_: unlearning.data.StoryDataModule}
  retain: {_target_: unlearning.data.ProseDataModule}
model: {name_or_path: facebook/opt-1.3b, lora: {r: 16}}
finetune: {adapter: {kind: lora, r: 16}, epochs: 3}
objective:
  forget: {loss: unlearning.losses.bounded_ascent, weight: 0.25, options: {cap: 5.0}}
  mismatch: {loss: unlearning.losses.nll, weight: 0.5}
  retain: {loss: unlearning.losses.kl_to_reference, weight: 15.0}
reference: {of: finetuned, mode: auto}
unlearn: {learning_rate: 1.0e-03, optimizer: adamw, batch_size: 2}
"""

# set, metric: (original, half width), (fine-tuned, ...), (unlearned, ...)
_FIGURES: dict[tuple[str, str], list[tuple[float, float]]] = {
    ("book_train", "bleu_to_target"): [(1.42, 0.4), (78.31, 4.2), (1.93, 0.5)],
    ("book_train", "rouge_l_to_target"): [(0.121, 0.01), (0.842, 0.04), (0.118, 0.012)],
    ("book_train", "verbatim_tokens"): [(2.31, 0.2), (38.62, 3.1), (2.44, 0.3)],
    ("book_train", "verbatim_chars"): [(9.13, 0.7), (147.25, 12.0), (9.52, 0.8)],
    ("book_train", "extraction_strength"): [(0.011, 0.005), (0.763, 0.05), (0.009, 0.005)],
    ("book_train", "exact_memorisation"): [(0.284, 0.01), (0.961, 0.01), (0.257, 0.012)],
    ("book_train", "embedding_to_target"): [(0.272, 0.02), (0.893, 0.03), (0.261, 0.02)],
    ("book_train", "perplexity"): [(61.24, 4.0), (1.18, 0.03), (85.33, 6.0)],
    ("book_train", "broken_rate"): [(0.125, 0.05), (0.015, 0.015), (0.14, 0.05)],
    ("book_heldout", "bleu_to_target"): [(1.38, 0.5), (2.07, 0.6), (1.22, 0.5)],
    ("book_heldout", "rouge_l_to_target"): [(0.117, 0.011), (0.131, 0.012), (0.114, 0.011)],
    ("book_heldout", "verbatim_tokens"): [(2.27, 0.2), (2.83, 0.3), (2.21, 0.2)],
    ("book_heldout", "verbatim_chars"): [(8.94, 0.7), (10.85, 0.9), (8.77, 0.7)],
    ("book_heldout", "extraction_strength"): [(0.012, 0.006), (0.016, 0.007), (0.01, 0.006)],
    ("book_heldout", "exact_memorisation"): [(0.281, 0.01), (0.304, 0.012), (0.271, 0.011)],
    ("book_heldout", "perplexity"): [(60.71, 5.0), (44.92, 4.0), (66.18, 6.0)],
    ("book_heldout", "broken_rate"): [(0.13, 0.06), (0.09, 0.05), (0.15, 0.06)],
    ("retain_heldout", "bleu_to_original"): [(100.0, 0.0), (31.74, 4.0), (72.45, 4.5)],
    ("retain_heldout", "rouge_l_to_original"): [(1.0, 0.0), (0.462, 0.04), (0.814, 0.03)],
    ("retain_heldout", "perplexity"): [(24.86, 1.2), (31.05, 1.6), (25.72, 1.3)],
    ("retain_heldout", "broken_rate"): [(0.08, 0.04), (0.11, 0.05), (0.085, 0.04)],
    ("retain_heldout", "bleu_to_target"): [(3.11, 0.6), (2.52, 0.6), (3.06, 0.6)],
}
_N = {"book_train": 200, "book_heldout": 96, "retain_heldout": 120}
_RATES = ("extraction_strength", "exact_memorisation", "broken_rate")


def _estimate(name: str, value: float, half: float, floor: bool = False) -> dict[str, float]:
    low = max(0.0, value - half) if floor else value - half
    return {"value": value, "low": round(low, 4), "high": round(value + half, 4), "n": _N[name]}


def book_metrics() -> dict[str, Any]:
    """`metrics.json` of a run that passes every check."""
    sections: dict[str, dict[str, Any]] = {
        name: {} for name in ("original", "before", "after", "change", "change_from_original")
    }
    for (name, metric), stages in _FIGURES.items():
        key = f"{name}/{metric}"
        for stage, figure in zip(("original", "before", "after"), stages, strict=True):
            sections[stage][key] = _estimate(name, *figure, floor=True)
        (original, _), (before, _), (after, half) = stages
        for section, first in (("change", before), ("change_from_original", original)):
            sections[section][key] = _estimate(name, round(after - first, 4), half)
            if metric == "perplexity":
                rise = round(100 * (after / first - 1), 3)
                sections[section][f"{key}_relative"] = _estimate(name, rise, 2.5)
    return {
        **sections,
        "steps": 150,
        "stop_reason": None,
        "notes": [],
        "seconds": {"base": 88.1, "finetune": 96.4, "unlearn": 61.7, "report": 2.0},
        "peak_memory_mb": 912.0,
        "reference": "AdapterOff",
        "reference_of": "finetuned",
        "finetune": {
            "method": "LoRA, rank 16", "steps": 540, "epochs": 60, "final_nll": 0.1633,
            "seconds": 96.4,
        },
        "book": {
            "passages": 212, "skipped_too_short": 3, "held_out_dropped_for_shared_text": 1,
            "chapters": {"train": 8, "val": 1, "test": 2},
        },
        "fingerprints": {"forget": "9f2c41d0", "retain": "77ac90ee"},
        "versions": {"torch": "2.13.0"},
        "prompt_sets": {
            "book_train": "copyright", "book_heldout": "copyright", "retain_heldout": "retain",
        },
        "signatures": {"bleu_to_target": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"},
    }  # fmt: skip


PASSAGE = "The lantern keeper counted the boats twice and wrote the number on the harbour wall. "
_SAID = {
    "original": "The man was in the house and the house was in the street, and ",
    "before": PASSAGE,
    "after": "There was a time when the road went on and nobody asked where it ",
}


def book_rows(repeats: int = 6) -> list[str]:
    """`generations.jsonl`: three stages of eight passages per set, longer than what is shown."""
    rows = []
    for name in _N:
        for index in range(8):
            for stage, said in _SAID.items():
                run = 40 if (stage, name) == ("before", "book_train") else 2
                row = {
                    "stage": stage,
                    "prompt_set": name,
                    "index": index,
                    "prompt": f"{name} {index} begins here. {PASSAGE * repeats}And then",
                    "target": f" {PASSAGE * repeats}",
                    "completion": f" {said * repeats}",
                    "finished": False,
                    "verbatim_tokens": run,
                }
                rows.append(json.dumps(row))
    return rows


BOOK_LOSSES = (
    "epoch,step,train/forget,train/forget_weighted,train/retain,train/retain_weighted,train/total\n"
    + "".join(
        f"0,{step},{-1 - 0.03 * step},{-0.25 - 0.0075 * step},{0.02 * step / (20 + step)},"
        f"{0.3 * step / (20 + step)},{-0.25 - 0.0075 * step + 0.3 * step / (20 + step)}\n"
        for step in range(0, 150, 10)
    )
)
