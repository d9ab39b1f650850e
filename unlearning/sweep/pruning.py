"""Tells Optuna that a reverted run's trial is pruned, for which Hydra's plugin has no way.

The plugin tells whatever has no numbers as failed, which samplers leave out: they would go on
trying such settings. Of one objective, TPE counts a pruned trial among the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from optuna.trial import Trial, TrialState

from unlearning.report.ending import REVERTED


class PruningSweeper(OptunaSweeperImpl):
    """Hydra's Optuna sweeper, where a job that returns `REVERTED` is a pruned trial."""

    def setup(self, **settings: Any) -> None:
        """Called by Hydra."""
        super().setup(**settings)
        assert self.launcher is not None
        self._keeping = _KeepingReturns(self.launcher)
        self.launcher = self._keeping  # type: ignore[assignment]

    def _configure_trials(self, trials: list[Trial], *space: Any) -> Sequence[Sequence[str]]:
        study, numbers = trials[0].study, [trial.number for trial in trials]
        tell = type(study).tell

        def told(trial: Trial, values: Any = None, state: Any = TrialState.COMPLETE) -> None:
            returned = self._keeping.returns[numbers.index(trial.number)]
            if state == TrialState.FAIL and was_reverted(returned):
                state = TrialState.PRUNED
            tell(study, trial, values, state)

        study.tell = told  # type: ignore[method-assign, assignment]  # of this batch alone
        found: Sequence[Sequence[str]] = super()._configure_trials(trials, *space)
        return found


class _KeepingReturns:
    """Passes launches on, and keeps what the last one returned."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.returns: Sequence[JobReturn] = ()

    def launch(self, overrides: Any, initial_job_idx: int) -> Sequence[JobReturn]:
        self.returns = self.launcher.launch(overrides, initial_job_idx=initial_job_idx)
        return self.returns


def was_reverted(returned: JobReturn) -> bool:
    """Whether a job ran to its end and ended with the weights it began with."""
    completed = returned.status == JobStatus.COMPLETED
    return (
        completed and isinstance(returned.return_value, str) and returned.return_value == REVERTED
    )
