"""Runs a job under submitit, on SLURM or locally, possibly as one of several tasks."""

from __future__ import annotations

import os


def place() -> tuple[int, int]:
    """Returns (task, number of tasks) of this process; (0, 1) where submitit did not start it."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return 0, 1
    import submitit

    environment = submitit.JobEnvironment()
    return environment.global_rank, environment.num_tasks


def export_environment() -> None:
    """Sets the environment variables in which PyTorch looks for rank, world size and address.

    Nothing where submitit did not start this process, or started it alone.
    """
    if place()[1] < 2:
        return
    from submitit.helpers import TorchDistributedEnvironment

    # Every task keeps seeing all GPUs of its node: a run picks its own by its local rank.
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def starts_again() -> bool:
    """Whether SLURM has requeued this job after a time limit or a pre-emption."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
