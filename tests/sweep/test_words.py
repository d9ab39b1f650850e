"""What is swept over, how a job is called, and which words may change when a sweep goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.sweep.words import (
    label,
    overrides_of,
    quoted,
    resume_folder,
    resumed_words,
    swept_keys,
)

FOLDER = Path("runs/grid")
STORED = ["experiment=demo", "seed=0,1", "hydra.launcher.n_jobs=1"]


def test_other_flags_are_refused():
    assert overrides_of(["-m", "seed=0,1", "hydra.mode=MULTIRUN"]) == ["seed=0,1"]
    with pytest.raises(ConfigError, match="--config-dir"):
        overrides_of(["-m", "--config-dir=x"])


def test_swept_keys_are_those_of_sweeps_and_of_the_search_unless_fixed():
    params = {
        "objective.forget.weight": "interval(0.1,1)",
        "objective.retain.weight": "choice(1,2)",
    }
    config = OmegaConf.create({"hydra": {"sweeper": {"params": params}}})
    words = ["experiment=demo", "seed=range(0,3)", "model=a,b", "objective.retain.weight=3"]
    assert swept_keys(words, config) == ["seed", "model", "objective.forget.weight"]


def test_a_label_is_short_and_tells_jobs_apart():
    swept = ["objective.forget.weight", "objective.retain.weight", "seed"]
    words = ["experiment=demo", "seed=1", "objective.forget.weight=0.3786187886542605"]
    assert label(words, swept) == "forget.weight=0.3786 seed=1"
    alike = ["a.forget.weight", "b.forget.weight"]
    assert label(["a.forget.weight=1", "b.forget.weight=2"], alike) == (
        "a.forget.weight=1 b.forget.weight=2"
    )
    assert "${" not in label(["seed=${now:x}"], ["seed"])


@pytest.mark.parametrize("value", ["it's", "a=1,b 2", "tail\\", "{x: [1}", "größer"])
def test_quoted_is_read_back_as_it_was(value):
    override = OverridesParser.create().parse_override(f"sweep.job={quoted(value)}")
    assert override.value() == value


def test_the_folder_to_go_on_with():
    assert resume_folder(["seed=1"]) is None
    assert resume_folder(["sweep.resume='runs/a b'"]) == Path("runs/a b")
    assert resume_folder(["sweep.resume=null"]) is None
    # As the hint of a stopped sweep has it, once the shell has taken its quotes off.
    assert resume_folder(["sweep.resume=runs/a=b, c"]) == Path("runs/a=b, c")
    assert resume_folder(["sweep.resume=007"]) == Path("007")


@pytest.mark.parametrize("given", [[], ["seed=0,1", "experiment=demo"], ["sweep.resume=runs/grid"]])
def test_the_same_words_or_none_go_on(given):
    assert resumed_words(STORED, given, FOLDER) == STORED


def test_how_jobs_run_may_change():
    given = ["hydra.launcher.n_jobs=2", "sweep.objectives=[x]"]
    assert resumed_words(STORED, given, FOLDER) == [*STORED[:2], *given]


def test_other_jobs_are_refused_with_the_difference():
    with pytest.raises(ConfigError) as raised:
        resumed_words(STORED, ["experiment=demo", "seed=0,1,2"], FOLDER)
    text = str(raised.value)
    assert "Given now: seed=0,1,2;" in text and "not now: seed=0,1." in text
    assert "experiment=demo" not in text
