"""Checks what a sweep asks of its launcher, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.sweep.devices import number_of_devices


def check_numbered(config: DictConfig) -> None:
    """Raises a ConfigError for run folders with names of their own.

    Raises:
        ConfigError: `hydra.sweep.subdir` was changed.
    """
    plain = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if plain["subdir"] != "${hydra.job.num}":  # type: ignore[index, call-overload]
        raise ConfigError(
            f"hydra.sweep.subdir={plain['subdir']}: the runs of a sweep lie in "  # type: ignore[index, call-overload]
            "numbered folders, by which the sweep goes on and is reported. Leave it as it is; "
            "hydra.sweep.dir is free."
        )


def check_other_launcher(config: DictConfig, swept: Sequence[str], goes_on: bool) -> None:
    """Raises a ConfigError for settings that only this project's launcher supports.

    Args:
        swept: the keys that differ from job to job.
        goes_on: whether the sweep was begun before.

    Raises:
        ConfigError: the launcher cannot resume a sweep, or cannot start a job's ranks.
    """
    name = str(config.hydra.launcher.get("_target_")).rpartition(".")[2]
    if goes_on:
        raise ConfigError(
            f"{name} cannot go on with a sweep: it does not keep which jobs have finished. Use "
            "hydra/launcher=processes, or start what is missing."
        )
    devices = number_of_devices(config.trainer.devices)
    several = devices != 1 or any(key.split(".")[0] == "trainer" for key in swept)
    if not several:
        return
    plain = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    if "tasks_per_node" not in plain:  # type: ignore[operator]
        raise ConfigError(
            f"{name} runs a job inside a process of the sweep, and the job's other ranks would "
            f"start with the sweep's command line and run all of it (trainer.devices="
            f"{config.trainer.devices}). Use hydra/launcher=processes, which starts every job "
            "afresh, or submitit with one task a device."
        )
    # Made of trainer.devices as a rule, which has to be a number then.
    tasks = None if devices is None else config.hydra.launcher.tasks_per_node
    if tasks != devices or devices is None or "trainer.devices" in swept:
        raise ConfigError(
            f"{name} starts hydra.launcher.tasks_per_node={tasks or '?'} process(es) on a node, "
            f"and trainer.devices={config.trainer.devices} needs one a device, the same for every "
            "job. Give trainer.devices one number and set tasks_per_node to it."
        )


def check_cluster(config: DictConfig) -> None:
    """Raises a ConfigError for jobs on a cluster that is not there.

    Raises:
        ConfigError: submitit would not find SLURM.
    """
    launcher = str(config.hydra.launcher.get("_target_"))
    if launcher.endswith(".SlurmLauncher") and shutil.which("srun") is None:
        raise ConfigError(
            "hydra/launcher=slurm sends jobs off with srun, and there is none on this machine. "
            "Start the sweep on a machine of the cluster, or rehearse it here with "
            "hydra/launcher=slurm_local."
        )
