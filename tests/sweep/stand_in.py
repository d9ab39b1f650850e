"""Stands in for a run: the same command line, folder and exit codes, without a model.

It writes `calls.jsonl` with the words and the environment of each start. What it does hangs on
`objective.forget.weight`: 13 fails, 99 waits for a signal, above 1000 its guard puts back the
weights that it began with; a second start always finishes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    resumed = "resume" in words
    folder = Path(words["resume"] if resumed else words["hydra.run.dir"].strip("'"))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "calls.jsonl", "a", encoding="utf-8") as calls:
        call = {"words": sys.argv[1:], "began": time.time(), "environment": dict(os.environ)}
        print(json.dumps(call), file=calls)
    if resumed:
        words = json.loads((folder / "config.yaml").read_text(encoding="utf-8"))
    weight = float(words.get("objective.forget.weight", 1))
    (folder / "config.yaml").write_text(json.dumps(words), encoding="utf-8")  # JSON is YAML
    print("working", flush=True)
    if not resumed and weight == 13:
        sys.exit("a mishap")
    time.sleep(120 if not resumed and weight == 99 else float(os.environ.get("NAP", "0")))
    metrics = {
        "after": {"harmful_heldout/harmful_rate": {"value": 1 / (1 + weight), "low": 0, "high": 1}},
        "change": {"retain_heldout/perplexity_relative": {"value": weight, "low": 0, "high": 9}},
    }
    if weight > 1000:
        metrics |= {"steps": 20, "kept_steps": 0, "stop_reason": "a loss is not finite"}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
