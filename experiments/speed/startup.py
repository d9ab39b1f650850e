"""Seconds until a command has said something, and until a run has made its first step.

    python experiments/speed/startup.py
    python experiments/speed/startup.py experiment=demo objective.forget.weight=0.3

With the settings of a run it is started once to fill what is kept, and then some times more, each
ended when its first optimizer step is made, which is all that it is asked for: the curve of the
losses is written at the end of a training. CPU seconds stand beside the wall's, which other
programs change.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "unlearning"]
SHOWN = (["--help"], ["--version"], ["--cfg", "job"], ["experiment=demo", "--cfg", "job"])
TIMES = 5  # of which the median is told
RUNS = 3
ONE_STEP = ("unlearn.max_steps=1", "unlearn.warmup_steps=0")
POLL_SECONDS = 0.01

Seconds = tuple[float, float]  # wall, CPU


def cpu_seconds() -> float:
    """Of the processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def shown(arguments: list[str]) -> Seconds:
    """A command that shows something, from its start to its end."""
    start, before = time.perf_counter(), cpu_seconds()
    subprocess.run([*COMMAND, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start, cpu_seconds() - before


def first_step(arguments: list[str]) -> Seconds:
    """A run, from its start to the row of its first step; then it is ended."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("w+") as said:
        losses = Path(folder) / "run/losses.csv"
        start, before = time.perf_counter(), cpu_seconds()
        words = [*arguments, *ONE_STEP, f"hydra.run.dir={losses.parent}"]
        process = subprocess.Popen([*COMMAND, *words], stdout=said, stderr=said)
        try:
            while not _has_row(losses):
                if process.poll() is not None:
                    said.seek(0)
                    raise SystemExit(f"The run ended before its first step:\n{said.read()}")
                time.sleep(POLL_SECONDS)
            wall = time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
        return wall, cpu_seconds() - before


def _has_row(losses: Path) -> bool:
    return losses.is_file() and losses.read_text(encoding="utf-8").count("\n") > 1


def row(name: str, measured: list[Seconds]) -> str:
    wall, cpu = ([seconds[kind] for seconds in measured] for kind in (0, 1))
    return (
        f"| {name} | {statistics.median(wall):.2f} | {min(wall):.2f} to {max(wall):.2f} "
        f"| {statistics.median(cpu):.2f} |"
    )


def main(arguments: list[str]) -> None:
    print(f"Load of the machine at the start: {os.getloadavg()[0]:.1f}\n")
    print("| command | wall s, median | range | CPU s, median |\n|---|---|---|---|")
    for words in SHOWN:
        shown(words)  # once for the disk's sake
        print(row(f"`{' '.join(words)}`", [shown(words) for _ in range(TIMES)]), flush=True)
    if arguments:
        first_step(arguments)
        name = f"`{' '.join(arguments)}`, to the first step"
        print(row(name, [first_step(arguments) for _ in range(RUNS)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
