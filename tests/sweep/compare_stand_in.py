"""Stands in for a run of a comparison: figures by a law of method and setting, no model.

What it was started with is in `calls.jsonl`. `FAIL_ABOVE` names the retain weight above which a run
fails, `REVERT_ABOVE` one above which the guard puts back the weights it began with; `KILL_AT=<n>`
kills the sweep when so many runs have begun. Prompts of the trials have other names than those of
the test, and other figures.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

WORSE = {"paper": 0.3, "bounded": 0.1, "npo": 0.1, "rmu": 0.5, "task_vector": 0.6, "sam": 0.2}


def main() -> None:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    resumed = "resume" in words
    folder = Path(words["resume"] if resumed else words["hydra.run.dir"].strip("'"))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "calls.jsonl", "a", encoding="utf-8") as calls:
        print(json.dumps({"words": sys.argv[1:]}), file=calls)
    if resumed:
        words = json.loads((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(json.dumps(words), encoding="utf-8")  # JSON is YAML
    begun = len(list(folder.parent.glob("*/calls.jsonl")))
    if not resumed and begun == int(os.environ.get("KILL_AT", "0")):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # ended by a SIGTERM
    weight = float(words.get("objective.retain.weight", 1))
    if weight > float(os.environ.get("FAIL_ABOVE", "inf")):
        sys.exit("a mishap")
    (folder / "metrics.json").write_text(json.dumps(metrics(words, weight)), encoding="utf-8")


def metrics(words: dict[str, str], weight: float) -> dict[str, object]:
    """The more the retain term weighs, the less is forgotten, and the less it costs."""
    if words.get("experiment") == "copyright_demo":
        return of_a_book(words, weight)
    tried = words.get("evaluation") == "validation"
    split = "validation" if tried else "test"
    forget, retain = (f"{kind}_{split if tried else 'heldout'}" for kind in ("harmful", "retain"))
    noise = random.Random(f"{words['seed']} {words['method']}").gauss(0, 0.002)
    harm = WORSE[words["method"]] + weight / 100 + noise + (0 if tried else 0.05)
    rise = 12 / weight
    found = {
        "after": {
            f"{forget}/harmful_rate": {"value": harm, "low": 0, "high": 1},
            f"{retain}/perplexity": {"value": 4 + rise / 25, "low": 0, "high": 9},
        },
        "change": {f"{retain}/perplexity_relative": {"value": rise, "low": 0, "high": 99}},
        "prompt_sets": {
            forget: {"kind": "harmful", "split": split},
            retain: {"kind": "retain", "split": split},
        },
    }
    if weight > float(os.environ.get("REVERT_ABOVE", "inf")):
        found |= {"steps": 20, "kept_steps": 0, "stop_reason": "a loss is not finite"}
    return found


def of_a_book(words: dict[str, str], weight: float) -> dict[str, object]:
    tried = words.get("evaluation") == "copyright_validation"
    book, retain = ("book_validation" if tried else "book_train"), "retain_heldout"
    retain, part = ("retain_validation", "validation") if tried else (retain, "test")
    bleu = f"{book}/bleu_to_target"
    return {
        "original": {bleu: {"value": 2.0}},
        "before": {bleu: {"value": 50.0}},
        "after": {bleu: {"value": 10 * WORSE[words["method"]] + weight / 10}},
        "change_from_original": {f"{retain}/perplexity_relative": {"value": 12 / weight}},
        "prompt_sets": {
            book: {"kind": "copyright", "split": "train", "part": part},
            retain: {"kind": "retain", "split": "test", "part": part},
        },
    }


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
