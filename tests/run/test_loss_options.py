"""`objective.<term>.loss=...` on the command line brings its own options."""

from __future__ import annotations

import sys

import pytest
from omegaconf import OmegaConf

from unlearning import cli
from unlearning.objective import Objective
from unlearning.run import start as start_module

NPO = "objective.forget.loss=unlearning.methods.npo.npo"
BOUNDED = "objective.forget.loss=unlearning.losses.bounded_ascent"


@pytest.fixture
def forget_term(monkeypatch, tmp_path):
    """The forget term with which a run of the demo starts, whose own loss has a cap."""

    def composed(*words: str):
        started = []
        monkeypatch.setattr(sys, "argv", ["unlearn"])
        monkeypatch.setattr(
            start_module, "start", lambda config, *a, **b: started.append(config) or 0
        )
        assert cli._main(["experiment=demo", f"hydra.run.dir={tmp_path}/run", *words]) == 0
        [config] = started
        return Objective(OmegaConf.to_container(config.objective, resolve=True)).terms["forget"]

    return composed


@pytest.mark.parametrize(
    ("words", "loss", "options"),
    [
        ([], "bounded_ascent", {"cap": 3.0}),
        ([NPO], "npo", {}),
        ([NPO, "+objective.forget.options.beta=0.2"], "npo", {"beta": 0.2}),
        (["objective.forget.weight=2", "++objective.forget.options.beta=0.2", NPO], "npo",
         {"beta": 0.2}),
        ([NPO, "~objective.forget.options"], "npo", {}),
        ([BOUNDED], "bounded_ascent", {"cap": 3.0}),  # the loss that stood there
        (["objective.forget.options.cap=4", BOUNDED], "bounded_ascent", {"cap": 4.0}),
        (["method=npo"], "npo", {"beta": 0.1}),
        (["method=npo", "objective.forget.options.beta=0.5"], "npo", {"beta": 0.5}),
        (["method=npo", BOUNDED], "bounded_ascent", {}),
    ],
)  # fmt: skip
def test_the_options_of_the_loss_before_are_dropped(forget_term, words, loss, options):
    term = forget_term(*words)
    assert (term.function.__name__, dict(term.options)) == (loss, options)


def capped(tokens, cap=1.0):
    """Takes a cap, too."""
    return -tokens.nll.clamp(max=cap).mean()


def test_an_option_that_both_take_is_the_new_ones_where_given(forget_term):
    word = f"objective.forget.loss={__name__}.capped"
    assert dict(forget_term(word).options) == {}
    assert dict(forget_term("objective.forget.options.cap=2", word).options) == {"cap": 2}


def test_a_shown_configuration_is_the_one_that_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["unlearn"])
    cli._main(["experiment=demo", NPO, "--cfg", "job"])
    shown = capsys.readouterr().out
    assert "unlearning.methods.npo.npo" in shown and "cap:" not in shown


def test_other_terms_keep_theirs(forget_term):
    assert forget_term("objective.retain.loss=unlearning.losses.nll").options == {"cap": 3.0}
