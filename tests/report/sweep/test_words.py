from __future__ import annotations

import pytest

from unlearning.report.sweep.words import canonical, flat, of_the_run, parse, show, sweeps


@pytest.mark.parametrize(
    ("word", "parsed"),
    [
        ("seed=3", ("seed", "3")),
        ("unlearn.learning_rate=2e-6", ("unlearn.learning_rate", "2e-06")),
        ("unlearn.learning_rate=0.0000020", ("unlearn.learning_rate", "2e-06")),
        ("+objective.forget.options.cap=5.0", ("objective.forget.options.cap", "5")),
        ("++a.b=null", ("a.b", "null")),
        ("name='a,b=c'", ("name", "a,b=c")),
        ("data.forget.chapters=[1,10]", ("data.forget.chapters", "[1,10]")),
        ("~logger", None),
        ("hydra/launcher=processes", None),
        ("hydra.sweep.dir=x", None),
        ("sweep.name=x", None),
        ("-m", None),
    ],
)
def test_words_are_parsed_and_numbers_have_one_spelling(word, parsed):
    assert parse(word) == parsed


@pytest.mark.parametrize(
    ("word", "several"),
    [
        ("a=1,2", True),
        ("a=choice(1,2)", True),
        ("a=interval(0,1)", True),
        ("a=range(1,4)", True),
        ("a=[1,2]", False),
        ("a=[1,2],[3]", True),
        ("a='1,2'", False),
        ("a=1", False),
        ("experiment=demo", False),
    ],
)
def test_sweep_syntax_is_told_from_lists_and_quotes(word, several):
    assert sweeps(word) is several


def test_configurations_are_flattened_without_what_belongs_to_the_folder():
    config = {
        "a": {"b": 1.0, "c": None, "empty": {}},
        "on": True,
        "l": [1, "x"],
        "sweep": {"job": "a=1"},
        "logger": {"save_dir": "runs/3"},
        "cache_dir": "/somewhere",
    }
    expected = {"a.b": "1", "a.c": "null", "a.empty": "{}", "on": "true", "l": '[1, "x"]'}
    assert dict(flat(config)) == expected


def test_labels_are_short_and_commands_speak_of_the_run_alone():
    assert show("0.123456789012") == "0.1235"
    assert show("1e-05") == "1e-05"
    assert show("a/long/word") == "a/long/word"
    assert canonical(" 1.50 ") == "1.5"
    words = ("a=1", "hydra.run.dir=x", "sweep.job=x", "~callbacks.guard")
    assert of_the_run(words) == ("a=1", "~callbacks.guard")
