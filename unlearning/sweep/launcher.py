"""Hydra launcher in which every job of a sweep is an ordinary run in a fresh interpreter.

Jobs inside the launching process would share what a run leaves behind there (a W&B run, a seeded
generator, a process group), and Lightning would start their other ranks with the sweep's command
line: each of those would then run the sweep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from unlearning.errors import ConfigError
from unlearning.run.config.schema import check_schema
from unlearning.run.tracking.secrets import check_secrets
from unlearning.sweep.devices import Wish, assign_devices
from unlearning.sweep.messages import tell
from unlearning.sweep.runner import Plan, Runner
from unlearning.sweep.state import REVERTED, Sweep
from unlearning.sweep.words import OF_THE_SWEEP, SWEEP, label, quoted, starts, swept_keys

# Hydra takes plugins by a name below hydra_plugins only. A package of that name would be a second
# top-level one to install; the name alone will do.
MODULE = "hydra_plugins.unlearning"


class SweepStoppedError(Exception):
    """A signal ended the sweep before its jobs were done.

    Args:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class ProcessLauncher(Launcher):
    """Runs jobs as processes, `n_jobs` side by side.

    Args:
        n_jobs: how many.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra; the task function is not used, since jobs start from the command
        line."""
        self.context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs the jobs that have not finished; a job returns its objectives, or None.

        Raises:
            ConfigError: before the first job starts, if there are too few devices.
            SweepStoppedError: Ctrl-C or SIGTERM came; the running jobs have ended.
        """
        setup_globals()
        _refuse_ranks()
        sweep = Sweep.load(Path(str(self.config.hydra.sweep.dir)))
        loader = self.context.config_loader
        configs = [loader.load_sweep_config(self.config, list(o)) for o in job_overrides]
        if initial_job_idx == 0:  # a search's later jobs fail one by one
            _check_all(configs, job_overrides)
        places = assign_devices([Wish.of(config) for config in configs], self.n_jobs)
        plans = [
            self._plan(sweep, overrides, initial_job_idx + index, config)
            for index, (overrides, config) in enumerate(zip(job_overrides, configs, strict=True))
        ]
        sweep.save()
        show = self.n_jobs == 1 and sys.stdout.isatty()
        runner = Runner(sweep, places, show, tell)
        # Two jobs with the same overrides are one.
        stopped_by = runner.run(list({plan.number: plan for plan in plans}.values()))
        if stopped_by is not None:
            raise SweepStoppedError(stopped_by)
        return [
            _returned(sweep, plan, overrides, config)
            for plan, overrides, config in zip(plans, job_overrides, configs, strict=True)
        ]

    def _plan(
        self, sweep: Sweep, overrides: Sequence[str], number: int, config: DictConfig
    ) -> Plan:
        own = [word for word in overrides if not starts(word, [SWEEP])]
        number = sweep.number_of(own, number)
        # The key of a sweep is a key of its first batch, too.
        name = label(own, swept_keys(sweep.overrides, self.config)) or f"job {number}"
        hydra = [
            word for word in self.config.hydra.overrides.hydra if not starts(word, OF_THE_SWEEP)
        ]
        words = [
            *own, *hydra,
            f"hydra.run.dir={quoted(str(sweep.path(number)))}",
            f"sweep.name={quoted(str(config.sweep.name or sweep.folder.name))}",
            f"sweep.job={quoted(name)}",
        ]  # fmt: skip
        objectives = tuple(str(path) for path in config.sweep.objectives)
        return Plan(number, name, tuple(words), objectives, not config.validate)


def _check_all(configs: Sequence[DictConfig], job_overrides: Sequence[Sequence[str]]) -> None:
    """Checks the configuration of every job before the first one starts.

    Raises:
        ConfigError: naming the job, and what is wrong with it.
    """
    for config, overrides in zip(configs, job_overrides, strict=True):
        own = config.copy()
        with open_dict(own):
            own.pop("hydra", None)
        try:
            check_secrets([], own)  # first: other errors repeat values
            check_schema(own)
        except ConfigError as error:
            raise ConfigError(f"The job with {' '.join(overrides)}: {error}") from error


def _returned(sweep: Sweep, plan: Plan, overrides: Sequence[str], config: DictConfig) -> JobReturn:
    """Returns a job's result: its objectives, or `REVERTED`. A failed job returns None: an error
    would end the sweep in Hydra's own sweeper."""
    job = sweep.jobs[plan.number]
    objectives = job.objectives
    result = JobReturn(
        overrides=list(overrides), cfg=config, hydra_cfg=config,
        working_dir=str(sweep.path(plan.number)), status=JobStatus.COMPLETED,
    )  # fmt: skip
    several = objectives is not None and len(objectives) > 1
    result.return_value = objectives if several or not objectives else objectives[0]
    if job.status == REVERTED:
        result.return_value = REVERTED
    return result


def _refuse_ranks() -> None:
    """Raises a ConfigError under torchrun or srun, which would run the sweep several times."""
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if int(os.environ.get(name) or 1) > 1:
            raise ConfigError(
                f"{name}={os.environ[name]}: this sweep was started as one of several processes. "
                "Start it once; every job starts its own, one a device (trainer.devices)."
            )
