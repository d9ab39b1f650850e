"""Starts one process per device, watches them, and ends them together.

Lightning's own launcher would run the command line again for every rank but the first, when the
first training begins, sweeps and all; torchrun passes Ctrl-C on twice, which to a run means "at
once". Hence these lines. Under torchrun, SLURM or submitit they are not used.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from unlearning.errors import BAD_INPUT, FAILED, INTERRUPTED, PREEMPTED
from unlearning.run.process.signals import handled

SPAWNED = "UNLEARNING_SPAWNED"  # set in the ranks that are started here
COMMAND = [sys.executable, "-m", "unlearning.run.process.rank"]
ORDERLY = (BAD_INPUT, INTERRUPTED, PREEMPTED)
GRACE_SECONDS = 15  # for the other ranks to end by themselves when one has
POLL_SECONDS = 0.1
TAIL_LINES = 12


def spawn(folder: Path, world: int, resume: bool) -> int:
    """Runs the folder's `config.yaml` on `world` ranks of this machine.

    Rank 0 writes to this process's terminal, the others to `<folder>/logs/rank_<n>.log`.

    Returns:
        The exit code: 0, or that of the first rank to fail. What happened was said.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    port, ranks = _free_port(), list[subprocess.Popen[bytes]]()
    command = [*COMMAND, str(folder), *["--resume"] * resume]
    passed = list[int]()  # signals that came to us

    def forward(number: int) -> None:
        passed.append(number)
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    with handled(forward):
        for rank in range(world):
            log = None if rank == 0 else (logs / f"rank_{rank}.log").open("ab")
            ranks.append(
                subprocess.Popen(
                    command, env=_environment(rank, world, port), stdin=subprocess.PIPE,
                    stdout=log, stderr=log,
                    # Of its own, so that the terminal's Ctrl-C comes through us, and once.
                    start_new_session=True,
                )
            )  # fmt: skip
            if log is not None:
                log.close()
        try:
            return _watch(ranks, folder, passed)
        finally:
            for process in ranks:
                if process.stdin is not None:
                    process.stdin.close()  # which would end a rank, were there one left


def live_and_die_with_parent() -> None:
    """Ends this rank when the process that spawned it ends, however that happened.

    The parent holds the other end of our standard input and never writes to it.
    """

    def wait() -> None:
        os.read(0, 1)
        os._exit(FAILED)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def _environment(rank: int, world: int, port: int) -> dict[str, str]:
    threads = max(1, len(os.sched_getaffinity(0)) // world)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        SPAWNED: "1", "RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0",
        "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(ranks: list[subprocess.Popen[bytes]], folder: Path, passed: list[int]) -> int:
    while all(code in (None, 0) for code in (rank.poll() for rank in ranks)):
        if all(rank.poll() == 0 for rank in ranks):
            return 0
        time.sleep(POLL_SECONDS)
    failed = {n: rank.returncode for n, rank in enumerate(ranks) if rank.poll() not in (None, 0)}
    _end(ranks)
    number, code = next(iter(failed.items()))
    if code in ORDERLY and (code != BAD_INPUT or ranks[0].returncode == BAD_INPUT):
        return code  # rank 0 said why
    if -code in passed:  # before the rank was ready to hear it
        return 128 - code
    print(_failure(number, code, len(ranks), folder), file=sys.stderr)
    return FAILED


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """Ends the other ranks, which mostly end by themselves when one is gone, but not if they
    wait for it."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(POLL_SECONDS)
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
        rank.wait()


def _failure(number: int, code: int, world: int, folder: Path) -> str:
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    told = [f"error: rank {number} of {world} died ({how}), which ends the run."]
    if code == -signal.SIGKILL:
        told.append("SIGKILL often comes from the system itself, when its memory is full.")
    log = folder / "logs" / f"rank_{number}.log"
    if log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        told += [f"The end of {log}:", *(f"  {line}" for line in lines)]
    told.append(f"To go on from the last checkpoint: unlearn resume={folder}")
    return "\n".join(told)
