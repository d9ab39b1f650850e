"""Memory and time until the first batch as the retain set grows: 10^3 to 10^6 pairs in a file.

    python experiments/speed/retain_sizes.py 1000 10000 100000

Each size runs in a fresh process: a JSONL file of made pairs, read, split, checked and tokenised by
an `UnlearningDataModule` with a cache, then ten batches. What a *streamed* corpus takes is measured
in `experiments/copyright/memory.py`.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets  # noqa: F401  # part of the baseline
from workload import _tokenizer

from unlearning.data import JsonlDataModule, PromptTemplate, UnlearningDataModule
from unlearning.types import Example

VOCABULARY = 4096
WIDTH = 2048
"""Of the model whose cached reference states are counted: OPT-1.3b."""


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    before, start = resident_mib(), time.perf_counter()
    retain = JsonlDataModule(str(path), records_split=None, fractions=(1.0, 0.0, 0.0))
    forget = [Example(f"w5 w6 w{n} w9", f"w{n} w7 w8") for n in range(10, 42)]
    template = PromptTemplate("{prompt}", " ")
    data = UnlearningDataModule(forget, retain, tokenizer, template, cache_dir=cache)
    data.setup()
    for number in range(10):
        data.batch_at(number)
    tokens = sum(len(s.response_ids) for s in data.sequences["retain"])
    on_disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return {
        "mib": resident_mib() - before,
        "seconds": time.perf_counter() - start,
        "tokens_mib": on_disk / 2**20,
        "states_mib": tokens * WIDTH * 4 / 2**20,
    }


def main() -> None:
    if sys.argv[1] == "--one":
        print(json.dumps(measure_one(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    print("| pairs | MiB above the libraries | s to ten batches | tokens on disk, MiB "
          f"| cached states of width {WIDTH}, fp32, MiB |\n|---|---|---|---|---|")  # fmt: skip
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
