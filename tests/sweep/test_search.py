"""An Optuna search over stand-ins: two objectives, failures, and going on after a stop."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from sweep.conftest import calls, jobs

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

from unlearning.sweep import multirun  # noqa: E402
from unlearning.sweep.search import Search  # noqa: E402

SEARCH = ["experiment=demo", "hydra/sweeper=pareto", "hydra.launcher.n_jobs=2"]


def study(folder):
    return optuna.load_study("unlearning", f"sqlite:///{folder}/study.db")


def states(folder):
    return [trial.state.name for trial in study(folder).trials]


def test_two_objectives_and_a_study_to_look_at(stand_in, capsys):
    assert multirun(["-m", *SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s"]) == 0
    trials = study(stand_in / "s").trials
    assert (
        len(trials) == 4 and [d.name for d in study(stand_in / "s").directions] == ["MINIMIZE"] * 2
    )
    for trial, job in zip(trials, jobs(stand_in / "s").values(), strict=True):
        weight = trial.params["objective.forget.weight"]
        assert trial.values == job["objectives"] == pytest.approx([1 / (1 + weight), weight])
    assert len(study(stand_in / "s").best_trials) == 4  # each forgets more for a price
    assert (stand_in / "s/optimization_results.yaml").is_file()

    assert multirun(["-m", "sweep.resume=s", "hydra.sweeper.n_trials=6"]) == 0
    found = {trial.params["objective.forget.weight"] for trial in study(stand_in / "s").trials}
    assert len(found) == 6, "went on with trials that had been made"
    assert len(jobs(stand_in / "s")) == 6


def test_what_is_searched_may_be_nested():
    nested = OmegaConf.create({"seed": 1, "objective": {"retain": {"weight": "interval(1, 2)"}}})
    search = Search(["minimize after.x"], "sqlite://", "s", 1, sampler=None, params=nested)
    assert search.sweeper.params == {"seed": 1, "objective.retain.weight": "interval(1, 2)"}


def test_a_failed_trial_is_told_so_and_the_search_goes_on(stand_in, capsys):
    words = ["objective.forget.weight=choice(13)", "objective.retain.weight=interval(1,9)"]
    assert multirun(["-m", *SEARCH, *words, "hydra.sweeper.n_trials=3", "hydra.sweep.dir=s"]) == 1
    assert states(stand_in / "s") == ["FAIL"] * 3
    assert "0 of 3 jobs finished" in capsys.readouterr().out


def test_one_objective_where_every_trial_fails(stand_in):
    words = ["objective.forget.weight=choice(13)", "objective.retain.weight=interval(1,9)"]
    path = "after.harmful_heldout/harmful_rate"
    words += ["hydra/sweeper=search", f"hydra.sweeper.objectives=[minimize {path}]"]
    command = ["-m", "experiment=demo", *words, "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s"]
    assert multirun(command) == 1
    assert states(stand_in / "s") == ["FAIL"] * 2


@pytest.mark.parametrize("sweeper", ["pareto", "search"])
def test_a_reverted_trial_is_pruned(sweeper, stand_in, capsys):
    """Its figures, those of the model before, teach the search nothing."""
    path = "after.harmful_heldout/harmful_rate"
    one = [f"hydra.sweeper.objectives=[minimize {path}]"] if sweeper == "search" else []
    words = ["objective.forget.weight=choice(1,2000)", f"hydra/sweeper={sweeper}", *one]
    command = ["-m", "experiment=demo", *words, "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s"]
    assert multirun([*command, "hydra.sweeper.n_trials=4"]) == 0
    trials = study(stand_in / "s").trials
    found = {(t.params["objective.forget.weight"], t.state.name) for t in trials}
    assert found == {(1, "COMPLETE"), (2000, "PRUNED")}
    assert all(t.values is None for t in trials if t.state.name == "PRUNED")
    ended = [job["status"] for job in jobs(stand_in / "s").values()]
    assert set(ended) == {"finished", "reverted"}
    said = capsys.readouterr().out
    assert f"{ended.count('finished')} of 4 jobs finished" in said
    assert "reverted: it ended with the weights it began with" in said


def test_a_search_that_is_stopped_takes_its_trials_up_again(stand_in, monkeypatch):
    """The trial was asked for, and never told: its process was killed."""
    from unlearning.sweep import launcher

    command = ["-m", *SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s"]

    def stopped(self, plans):
        raise launcher.SweepStoppedError(2)

    with monkeypatch.context() as patched:
        patched.setattr(launcher.Runner, "run", stopped)
        assert multirun(command) == 130
    assert states(stand_in / "s") == ["RUNNING"] * 2
    asked = [trial.params for trial in study(stand_in / "s").trials]
    assert multirun(["-m", "sweep.resume=s"]) == 0
    trials = study(stand_in / "s").trials
    assert [trial.state.name for trial in trials] == ["FAIL"] * 2 + ["COMPLETE"] * 4
    assert [trial.params for trial in trials[2:4]] == asked
    assert sorted(jobs(stand_in / "s")) == [0, 1, 2, 3], "the trials kept their folders"
    assert all(len(calls(stand_in / f"s/{n}")) == 1 for n in range(4))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.objectives=[]"], "one or more"),
        (["hydra.sweeper.objectives=[minimize]"], "one or more"),
        (["hydra.sweeper.objectives=[up x]"], "must be 'minimize <path>'"),
        (["sweep.objectives=[x]"], "leave out sweep.objectives"),
        (["hydra.sweeper.n_trials=0"], "n_trials=0 must be a whole number"),
        (["hydra/sweeper=search"], "hydra.sweeper.objectives"),
    ],
)
def test_what_it_cannot_look_for(words, said, stand_in, capsys):
    assert multirun(["-m", *SEARCH[:2], *words, "hydra.sweep.dir=s"]) == 2
    assert said in capsys.readouterr().err
