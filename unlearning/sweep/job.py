"""Runs a job inside the process of another Hydra launcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from unlearning.sweep.objectives import read_objectives, reverted
from unlearning.sweep.state import REVERTED
from unlearning.sweep.submitit_task import export_environment, place, starts_again
from unlearning.sweep.words import label


class JobFailedError(RuntimeError):
    """The run ended with another exit code than 0, and has printed why."""


@dataclass(frozen=True)
class InProcess:
    """Runs a job in this process; picklable, so that submitit can send it elsewhere.

    Args:
        name: of the sweep.
        swept: the keys that differ from job to job.
    """

    name: str
    swept: tuple[str, ...]

    def __call__(self, config: DictConfig) -> Any:
        """Runs the job, and returns its objectives, or `REVERTED`.

        Raises:
            JobFailedError: the run failed or was stopped.
        """
        export_environment()
        # Only now, in the job: the launching process needs no torch.
        from unlearning.run.start import start

        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        OmegaConf.update(config, "sweep.name", self.name)
        OmegaConf.update(config, "sweep.job", label(hydra.overrides.task, self.swept))
        code = start(config, folder, resume=starts_again() and (folder / "config.yaml").is_file())
        if code:
            raise JobFailedError(f"The run in {folder} ended with exit code {code}.")
        if config.validate or place()[0] > 0:  # the first task writes, perhaps after this one ends
            return None
        if reverted(folder / "metrics.json"):
            return REVERTED
        found = read_objectives(folder / "metrics.json", config.sweep.objectives)
        return found[0] if len(found) == 1 else found or None
