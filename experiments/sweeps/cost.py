"""What the n-th job of a sweep cost against the first: `python cost.py <sweep folder>`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path


def main() -> None:
    folder = Path(sys.argv[1])
    jobs = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    seconds = [jobs[number]["seconds"] for number in sorted(jobs, key=int)]
    print("job  seconds  of job 0   stages")
    for number, took in enumerate(seconds):
        metrics = json.loads((folder / str(number) / "metrics.json").read_text(encoding="utf-8"))
        stages = "  ".join(f"{name} {s:.0f}" for name, s in metrics["seconds"].items())
        print(f"{number:>3}  {took:>7.1f}  {took / seconds[0]:>8.2f}   {stages}")
    later = statistics.median(seconds[1:9])
    print(f"median of jobs 1 to 8: {later:.1f} s, {later / seconds[0]:.2f} of the first")


if __name__ == "__main__":
    main()
