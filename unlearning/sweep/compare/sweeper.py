"""A Hydra sweeper that searches settings of several methods on validation prompts, and runs the
picked one of each with several seeds on the test prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.report.compare.arms import Arm, find_arms
from unlearning.report.compare.rule import Goal, Limit
from unlearning.report.compare.study import Study
from unlearning.report.sweep.folder import read_sweep_folder
from unlearning.sweep.compare.before import checked_study
from unlearning.sweep.compare.record import told_before, write_study
from unlearning.sweep.compare.space import split
from unlearning.sweep.compare.words import test_words, trial_words
from unlearning.sweep.messages import tell
from unlearning.sweep.search import Search


class Compare(Sweeper):
    """Gives each method `n_trials` trials, and the picked setting of each the same seeds.

    Args:
        methods: choices of `method`.
        n_trials: of each.
        seeds: how many runs of each picked setting there are.
        validation: the choice of `evaluation` for trials.
        forget: `minimize <path>` or `maximize <path>`.
        budget: `<path> <= <number>` or `<path> >= <number>`, each.
        params: searched for every method.
        own: method -> what it searches or has set in place of these.
        storage: of the studies, one a method.
        sampler: which parameters to try next; every method has one of its own that starts alike.
        n_jobs: trials at a time.
    """

    def __init__(
        self, methods: Sequence[str], n_trials: int, seeds: int, validation: str, forget: str,
        budget: Sequence[str], storage: str, sampler: Any, n_jobs: int = 1,
        params: DictConfig | None = None, own: DictConfig | None = None,
    ) -> None:  # fmt: skip
        self.n_trials, self.validation = n_trials, validation
        self.storage, self.sampler, self.n_jobs = storage, sampler, n_jobs
        self.goal_text, self.budget_texts = forget, list(budget)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.context, self.task, self.composed = hydra_context, task_function, config
        self.folder = Path(str(config.hydra.sweep.dir))

    def sweep(self, arguments: list[str]) -> None:
        """Searches method by method, picks, and tests; what an earlier start has done is kept.

        Raises:
            ConfigError: before any job, if the methods cannot be compared; after the trials of a
                method, if none of those that finished has the figures to pick by.
        """
        goal = Goal.parse(str(self.goal_text))
        budget = tuple(Limit.parse(str(text)) for text in self.budget_texts)
        study = checked_study(self.context, self.composed, arguments, goal, budget)
        arguments, _ = split(arguments)
        before = told_before(self.folder)
        write_study(self.folder, study)
        for number, method in enumerate(study.methods, 1):
            if before.get(method, 0) < study.n_trials:
                tell(f"Search {number} of {len(study.methods)}: {method}, {study.n_trials} trials")
            count = self._search(study, method, arguments)
            study = study.with_told(method, count)
            write_study(self.folder, study)
            self._check_figures(study, method)
        self._test(study, arguments)

    def _search(self, study: Study, method: str, arguments: Sequence[str]) -> int:
        """Runs the trials of a method, and returns how many its study has been told of."""
        search = Search(
            objectives=[str(study.goal), *(_objective(limit) for limit in study.budget)],
            storage=self.storage,
            study_name=method,
            n_trials=study.n_trials,
            sampler=copy.deepcopy(self.sampler),
            params=dict(study.space[method]),  # type: ignore[arg-type]
            n_jobs=self.n_jobs,
        )
        search.setup(hydra_context=self.context, task_function=self.task, config=self.composed)
        search.sweep(trial_words(arguments, method, study.validation, study.seed))
        # Hydra's plugin leaves what it found, of one method alone; the studies have all of it.
        (self.folder / "optimization_results.yaml").unlink(missing_ok=True)
        return search.ended

    def _check_figures(self, study: Study, method: str) -> None:
        arm = next(arm for arm in self._arms(study) if arm.method == method)
        finished = [job for job in arm.trials if job.metrics]
        if finished and arm.picked is None:
            paths = ", ".join([study.goal.path, *(limit.path for limit in study.budget)])
            raise ConfigError(
                f"None of the {len(finished)} finished trials of {method} has all of {paths} in "
                f"its metrics.json (the first is {self.folder / finished[0].name}), so that none "
                "can be picked. Correct hydra.sweeper.forget and hydra.sweeper.budget in a new "
                "comparison: kept results are used again."
            )

    def _test(self, study: Study, arguments: Sequence[str]) -> None:
        jobs, methods = [], []
        for arm in self._arms(study):
            if arm.picked is None:
                tell(f"{arm.method}: no trial has figures, so that nothing can be tested")
                continue
            where = "within" if arm.picked.within else "nearest to"
            tell(f"{arm.method}: picked job {arm.picked.trial.job}, {where} the budget")
            chosen = arm.job(arm.picked.trial.job).overrides
            methods.append(arm.method)
            jobs += [test_words(arguments, chosen, seed, study.apart) for seed in study.seeds]
        if jobs:
            tell(f"Test: {', '.join(methods)}, {len(study.seeds)} seed(s) each")
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task, config=self.composed
            )
            launcher.launch(jobs, initial_job_idx=0)

    def _arms(self, study: Study) -> list[Arm]:
        return find_arms(study, read_sweep_folder(self.folder).jobs)


def _objective(limit: Limit) -> str:
    return f"{'minimize' if limit.sign == '<=' else 'maximize'} {limit.path}"
