"""Assigns GPUs and cores to the jobs that run side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig

from unlearning.errors import ConfigError

ON_GPU = ("gpu", "cuda")


@dataclass(frozen=True)
class Wish:
    """The devices that a job's configuration asks for.

    Args:
        accelerator: `trainer.accelerator`.
        devices: how many; None for as many as there are.
    """

    accelerator: str
    devices: int | None

    @classmethod
    def of(cls, config: DictConfig) -> Wish:
        """Reads the wish from a job's configuration."""
        trainer = config.trainer
        return cls(str(trainer.accelerator), number_of_devices(trainer.devices))


def number_of_devices(devices: Any) -> int | None:
    """Returns how many devices `trainer.devices` means; None for all there are (`auto`, -1)."""
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    if isinstance(devices, (ListConfig, list)):
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def assign_devices(wishes: Sequence[Wish], n_jobs: int) -> list[dict[str, str]]:
    """Returns the environment of each slot in which a job can run.

    Args:
        wishes: of every job there is to run.
        n_jobs: how many of them side by side.

    Raises:
        ConfigError: the jobs side by side need more GPUs than there are, or do not say how many.
    """
    if not (isinstance(n_jobs, int) and n_jobs >= 1):
        raise ConfigError(f"hydra.launcher.n_jobs={n_jobs!r} must be a whole number of at least 1.")
    gpus = visible_gpus()
    asking = [wish for wish in wishes if _wants_gpu(wish, gpus)]
    places: list[dict[str, str]] = [{} for _ in range(n_jobs)]
    if asking:
        slices = _slices(asking, gpus, n_jobs, min(n_jobs, len(wishes)))
        for place, part in zip(places, slices, strict=False):
            place["CUDA_VISIBLE_DEVICES"] = part
    if len(asking) < len(wishes) and "OMP_NUM_THREADS" not in os.environ:
        devices = max(wish.devices or 1 for wish in wishes)
        # From n_jobs, not from how many are left to run: the same sums after a resume.
        threads = max(1, len(os.sched_getaffinity(0)) // (n_jobs * devices))
        for place in places:
            place["OMP_NUM_THREADS"] = str(threads)
    return places


def _wants_gpu(wish: Wish, gpus: Sequence[str]) -> bool:
    return wish.accelerator in ON_GPU or (wish.accelerator == "auto" and bool(gpus))


def _slices(asking: Sequence[Wish], gpus: Sequence[str], n_jobs: int, at_once: int) -> list[str]:
    """Returns the GPUs of each slot; none where one job at a time may see them all."""
    counts = [wish.devices for wish in asking]
    if n_jobs > 1 and None in counts:
        raise ConfigError(
            f"hydra.launcher.n_jobs={n_jobs} needs to know how many devices each job takes: set "
            "trainer.devices to a number."
        )
    each = max(count or 1 for count in counts)
    if at_once * each > len(gpus):
        raise ConfigError(
            f"{at_once} job(s) side by side with trainer.devices={each} need {at_once * each} "
            f"GPU(s); there are {len(gpus)}. Lower hydra.launcher.n_jobs or trainer.devices."
        )
    if n_jobs == 1:
        return []
    return [",".join(gpus[n * each : (n + 1) * each]) for n in range(at_once)]


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns CUDA's names of the GPUs that this process may use, without loading a library."""
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",") if name.strip()]
        # CUDA stops at the first that it does not know, such as the usual -1.
        return names[: names.index("-1")] if "-1" in names else names
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]
