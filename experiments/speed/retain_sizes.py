"""Memory and time until the first batch as the retain set grows: 10^3 to 10^6 pairs in a file.

    python experiments/speed/retain_sizes.py 1000 10000 100000

Each size runs in a fresh process: a JSONL file of made pairs, read, split, checked and tokenised by
an `UnlearningDataModule` with a cache, then ten batches. Memory is what the process has for itself
(`RssAnon`), looked at every 5 ms: its peak, and what is left at the end, above the libraries. Pages
of the mapped files (`RssFile`) are beside it, at the end: the system drops them when it needs room.
What a *streamed* corpus takes is measured in `experiments/copyright/memory.py`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import datasets  # noqa: F401  # part of the baseline
from workload import _tokenizer

from unlearning.data import JsonlDataModule, PromptTemplate, UnlearningDataModule
from unlearning.data.token_store import token_counts
from unlearning.types import Example

VOCABULARY = 4096
WIDTH = 2048
"""Of the model whose cached reference states are counted: OPT-1.3b."""


INTERVAL = 0.005
"""Seconds between two looks at the memory."""


def resident_mib(kind: str) -> float:
    """Memory of a kind that Linux tells apart: RssAnon (the process's own), RssFile (mapped)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


class Peak(threading.Thread):
    """Looks at the process's own memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib, self.done = resident_mib("RssAnon"), threading.Event()

    def run(self) -> None:
        while not self.done.wait(INTERVAL):
            self.mib = max(self.mib, resident_mib("RssAnon"))

    def stop(self) -> float:
        self.done.set()
        self.join()
        return self.mib


def write_pairs(path: Path, count: int) -> None:
    draw = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(
            f"w{draw.randrange(4, VOCABULARY)}" for _ in range(draw.randint(least, most))
        )

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            pair = {"prompt": words(10, 40), "response": words(20, 60)}
            file.write(json.dumps(pair) + "\n")


def measure_one(path: Path, cache: Path) -> dict[str, float]:
    tokenizer = _tokenizer(VOCABULARY)
    own, mapped, start = resident_mib("RssAnon"), resident_mib("RssFile"), time.perf_counter()
    peak = Peak()
    peak.start()
    retain = JsonlDataModule(str(path), records_split=None, fractions=(1.0, 0.0, 0.0))
    forget = [Example(f"w5 w6 w{n} w9", f"w{n} w7 w8") for n in range(10, 42)]
    template = PromptTemplate("{prompt}", " ")
    data = UnlearningDataModule(forget, retain, tokenizer, template, cache_dir=cache)
    data.setup()
    for number in range(10):
        data.batch_at(number)
    seconds = time.perf_counter() - start
    own_peak = peak.stop()
    tokens = int(token_counts(data.sequences["retain"])[1].sum())
    on_disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return {
        "own_peak_mib": own_peak - own,
        "own_mib": resident_mib("RssAnon") - own,
        "mapped_mib": resident_mib("RssFile") - mapped,
        "seconds": seconds,
        "text_mib": text_mib(path),
        "tokens_mib": on_disk / 2**20,
        "states_mib": tokens * WIDTH * 4 / 2**20,
    }


def text_mib(path: Path) -> float:
    """Of the prompts and responses, which lie in a file without a name while they are used."""
    with path.open(encoding="utf-8") as file:
        return (
            sum(len(text.encode()) for line in file for text in json.loads(line).values()) / 2**20
        )


def main() -> None:
    if sys.argv[1] == "--one":
        print(json.dumps(measure_one(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    print("| pairs | own memory, peak, MiB | at the end, MiB | mapped, MiB | s to ten batches "
          "| text on disk, MiB | tokens on disk, MiB | cached states of width "
          f"{WIDTH}, fp32, MiB |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            path, cache = Path(folder, "pairs.jsonl"), Path(folder, "cache")
            write_pairs(path, count)
            command = [sys.executable, __file__, "--one", str(path), str(cache)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                raise SystemExit(run.stderr)
            found = json.loads(run.stdout.splitlines()[-1])
        print(f"| {count} | " + " | ".join(f"{value:.0f}" for value in found.values()) + " |")


if __name__ == "__main__":
    main()
