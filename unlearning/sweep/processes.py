"""Starts a job as a process: its environment, its end with ours, and its signals."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COMMAND = [sys.executable, "-m", "unlearning"]

# Left by whoever started us as one of several: a job that saw them would wait for the others.
RANK_PREFIXES = (
    "TORCHELASTIC_", "ROLE_", "GROUP_", "PMI_", "PMIX_", "OMPI_COMM_", "SLURM_STEP_",
    "SLURM_NTASKS", "SLURM_TASKS_PER_NODE", "UNLEARNING_SPAWNED",
)  # fmt: skip
RANK_VARIABLES = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
    "MASTER_PORT", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NPROCS",
    "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_LAUNCH_NODE_IPADDR",
)  # fmt: skip


def job_environment(place: Mapping[str, str]) -> dict[str, str]:
    """Returns our environment without ranks, and with what the job's slot adds."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in RANK_VARIABLES and not name.startswith(RANK_PREFIXES)
    }
    return {**kept, **place}


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path | None, lock: int
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, so that the terminal's Ctrl-C reaches it through us
    only.

    Args:
        log: where its output goes; None for our own.
        lock: a file descriptor that it holds until it ends, longer than we may live.
    """
    file = None if log is None else log.open("ab")
    try:
        return subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True, preexec_fn=_die_with_parent(), pass_fds=(lock,),
        )  # fmt: skip
    finally:
        if file is not None:
            file.close()


def _die_with_parent() -> Callable[[], None] | None:
    """Called in the job: asks for a SIGTERM, at which it saves, when this process is killed.
    Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # too late
            os._exit(1)

    return ask
