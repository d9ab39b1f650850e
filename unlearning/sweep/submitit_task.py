"""A job that submitit runs, on SLURM or on this machine, perhaps as one of several tasks."""

from __future__ import annotations

import os


def place() -> tuple[int, int]:
    """Which task of how many this process is; the only one where submitit did not start it."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return 0, 1
    import submitit

    environment = submitit.JobEnvironment()
    return environment.global_rank, environment.num_tasks


def export_environment() -> None:
    """Put the task's rank, the number of tasks and where to meet where PyTorch looks for them.

    Nothing where submitit did not start this process, or started it alone.
    """
    if place()[1] < 2:
        return
    from submitit.helpers import TorchDistributedEnvironment

    # Every task keeps seeing all GPUs of its node: a run picks its own by its local rank.
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def starts_again() -> bool:
    """Whether SLURM has queued this job again after a time limit or a pre-emption."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
