"""An Optuna search whose study is stored, and continues where it was stopped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import DictConfig, OmegaConf
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from unlearning.errors import ConfigError
from unlearning.nested import leaves
from unlearning.sweep.pruning import PruningSweeper
from unlearning.sweep.words import quoted

STOPPED = "stopped"  # marks a trial whose place another one took, with the same parameters
DIRECTIONS = ("minimize", "maximize")


class Search(OptunaSweeper):
    """Hydra's Optuna sweeper with objectives from `metrics.json`.

    Args:
        objectives: `minimize <path>` or `maximize <path>`, one or more.
        storage: see the plugin, as of the others.
        study_name: what trials are stored under.
        n_trials: how many there are.
        sampler: which parameters to try next.
        params: the search space, written flat or nested.
        n_jobs: trials at a time.
    """

    def __init__(
        self, objectives: Sequence[str], storage: str, study_name: str, n_trials: int,
        sampler: Any, params: DictConfig | None = None, n_jobs: int = 1,
    ) -> None:  # fmt: skip
        pairs = [str(objective).split(None, 1) for objective in objectives]
        directions = [pair[0] for pair in pairs]
        # In place of the plugin's own.
        self.sweeper = PruningSweeper(
            sampler=sampler,
            direction=directions if len(directions) != 1 else directions[0],
            storage=storage,
            study_name=study_name,
            n_trials=n_trials,
            n_jobs=n_jobs,
            max_failure_rate=1.0,  # a trial that fails is told as failed, and the search goes on
            search_space=None,
            custom_search_space=None,
            params=OmegaConf.create(dict(leaves(params or {}, lists=False))),
        )
        self.paths = [pair[-1] for pair in pairs]
        self.objectives, self.directions = list(objectives), directions
        self.storage, self.study_name = storage, study_name
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra; errors raised here reach the user unchanged, unlike those of the
        constructor."""
        if not self.paths or any(
            way not in DIRECTIONS or way == path
            for way, path in zip(self.directions, self.paths, strict=True)
        ):
            raise ConfigError(
                f"hydra.sweeper.objectives={self.objectives} must be 'minimize <path>' or "
                "'maximize <path>', one or more, the paths leading into metrics.json."
            )
        if config.sweep.objectives:
            raise ConfigError(
                "A search takes its objectives with their directions from hydra.sweeper."
                "objectives; leave out sweep.objectives."
            )
        n_trials = self.sweeper.n_trials
        if not (isinstance(n_trials, int) and n_trials >= 1):
            raise ConfigError(
                f"hydra.sweeper.n_trials={n_trials!r} must be a whole number of at least 1."
            )
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Searches until there are `n_trials` trials, those of earlier starts included."""
        self.sweeper.n_trials -= self._take_up()
        paths = ",".join(quoted(path) for path in self.paths)
        try:
            super().sweep([*arguments, f"sweep.objectives=[{paths}]"])
        except ValueError:
            # Raised by a study of one objective that looks for the best of no trials.
            if any(trial.state == TrialState.COMPLETE for trial in self._trials()):
                raise

    @property
    def ended(self) -> int:
        """How many trials have ended, those of earlier starts included."""
        return sum(_counts(trial) for trial in self._trials())

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        names = [s.study_name for s in optuna.get_all_study_summaries(self.storage)]
        if self.study_name not in names:
            return []
        return optuna.load_study(self.study_name, self.storage).trials

    def _take_up(self) -> int:
        """Enqueues again the trials that were cut off, and returns how many others there are."""
        trials = self._trials()
        if not trials:
            return 0
        study = optuna.load_study(self.study_name, self.storage)
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            study._storage.set_trial_user_attr(trial._trial_id, STOPPED, True)
            if trial.params:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.enqueue_trial(trial.params)
            study.tell(trial.number, state=TrialState.FAIL)
        if isinstance(self.sweeper.sampler, BaseSampler):
            # With its seed it would propose the first trials again, which have been run.
            self.sweeper.sampler.reseed_rng()
        return sum(map(_counts, trials))


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state.is_finished() and STOPPED not in trial.user_attrs
