"""Kill a run with SIGKILL at random moments, resume it each time, and compare it with one that was
left alone.

    python experiments/sweeps/kill.py                 # 20 kills of a run in one process
    python experiments/sweeps/kill.py --devices 2     # of a run on two ranks: any of its processes

Everything is done by the command line, as a person or a scheduler does it: `unlearn ...`, then
`unlearn resume=<folder>` until it ends. A part of the run is killed at a time drawn evenly over a
stretch, or at one of the next eight steps if it comes to that first; with a checkpoint after every
step, some kills fall into the writing of one. Prints a log in Markdown; `kill.md` holds one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "unlearning"]
SMALL = [
    "experiment=demo", "model.base.max_steps=40", "classifier.train.max_steps=20",
    "classifier.train.warmup_steps=0", "model.base.training.warmup_steps=0",
    "unlearn.max_steps=100",
    "callbacks.checkpoint.every_n_steps=1", "callbacks.harm.every_n_steps=10",
    "callbacks.samples.every_n_steps=7", "evaluation.max_new_tokens=16",
    "evaluation.prompt_sets.harmful_train.limit=16",
    "evaluation.prompt_sets.harmful_heldout.limit=16",
    "evaluation.prompt_sets.retain_heldout.limit=16", "evaluation.prompt_sets.related.limit=16",
]  # fmt: skip
SAME = ("losses.csv", "samples.jsonl", "generations.jsonl", "model/model.safetensors")
UNLIKE = ("seconds", "peak_memory_mb")  # of metrics.json: the sum of parts, and of the last part


def start(root: Path, folder: Path, devices: int) -> subprocess.Popen[bytes]:
    """A part of the run: its beginning, or what comes after its last checkpoint."""
    if (folder / "config.yaml").is_file():
        words = [f"resume={folder}"]
    else:
        words = [*SMALL, f"hydra.run.dir={folder}", f"cache_dir={root}/cache_{folder.name}"]
        words += ["trainer=ddp", f"trainer.devices={devices}", "trainer.accelerator=cpu"] * (
            devices > 1
        )
    with (root / f"{folder.name}.out").open("ab") as out:
        return subprocess.Popen([*COMMAND, *words], stdout=out, stderr=out)


def descendants(process: int) -> list[int]:
    """A process and all that it started."""
    found = [process]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        found += map(int, children)
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def newest_step(folder: Path) -> int:
    steps = [int(path.stem.partition("=")[2]) for path in folder.glob("checkpoints/step=*.ckpt")]
    return max(steps, default=0)


def kill_once(process: subprocess.Popen[bytes], chance: random.Random) -> str | None:
    """Kill one of a run's processes, and wait for all of them; None where it had ended."""
    everyone = descendants(process.pid)
    if process.poll() is not None:
        return None
    victim = chance.choice(everyone)
    os.kill(victim, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(alive(other) for other in everyone):
        if time.monotonic() > deadline:
            raise SystemExit(f"processes {everyone} did not all end within a minute")
        time.sleep(0.05)
    return f"process {everyone.index(victim)} of {len(everyone)}"


def punish(root: Path, folder: Path, devices: int, kills: int, stretch: float, seed: int) -> int:
    """Kill and resume until the run ends or was killed often enough; how often it was."""
    chance, killed = random.Random(seed), 0
    print("| kill | after | killed | last whole step | being written |\n|---|---|---|---|---|")
    while killed < kills:
        process, begun = start(root, folder, devices), time.monotonic()
        latest, last = (
            begun + chance.uniform(0, stretch),
            newest_step(folder) + chance.randint(1, 8),
        )
        while time.monotonic() < latest and newest_step(folder) < last and process.poll() is None:
            time.sleep(0.001)
        victim = kill_once(process, chance)
        if victim is None:
            if process.returncode == 0:
                break
            raise SystemExit((root / f"{folder.name}.out").read_text()[-4000:])
        killed += 1
        writing = [path.name for path in folder.glob("checkpoints/.*.partial")]
        after = f"{time.monotonic() - begun:.1f} s"
        print(
            f"| {killed} | {after} | {victim} | {newest_step(folder)} | {' '.join(writing)} |",
            flush=True,
        )
    return killed


def finish(root: Path, folder: Path, devices: int) -> float:
    begun = time.monotonic()
    if start(root, folder, devices).wait() != 0:
        raise SystemExit((root / f"{folder.name}.out").read_text()[-4000:])
    return time.monotonic() - begun


def compare(whole: Path, killed: Path) -> bool:
    """Print what is equal; whether everything is."""
    verdicts = {n: (whole / n).read_bytes() == (killed / n).read_bytes() for n in SAME}
    first, second = (json.loads((f / "metrics.json").read_text()) for f in (whole, killed))
    for name in UNLIKE:
        first.pop(name), second.pop(name)
    verdicts[f"metrics.json without {' and '.join(UNLIKE)}"] = first == second
    for name, same in verdicts.items():
        print(f"- {name}: {'equal, bit for bit' if same else '**different**'}")
    return all(verdicts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill and resume a run, and compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stretch", type=float, help="seconds within which a part is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill_") as name:
        root = Path(name)
        seconds = finish(root, root / "whole", options.devices)
        stretch = options.stretch or 0.6 * seconds
        print(f"Left alone: {seconds:.1f} s. Killed within {stretch:.1f} s of each start.\n")
        times = punish(
            root, root / "killed", options.devices, options.kills, stretch, options.seed
        )  # fmt: skip
        if not (root / "killed/report.html").is_file():
            finish(root, root / "killed", options.devices)
        print(f"\nKilled {times} times, resumed each time:\n")
        sys.exit(0 if compare(root / "whole", root / "killed") and times == options.kills else 1)


if __name__ == "__main__":
    main()
