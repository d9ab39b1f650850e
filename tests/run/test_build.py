"""From configuration to objects: arguments are checked, errors name the key."""

from __future__ import annotations

import random

import pytest

from unlearning.data import JsonlDataModule, SyntheticDataModule
from unlearning.errors import ConfigError
from unlearning.run.config.build import (
    _one_per_prompt,
    build,
    build_data,
    build_trainer,
    check_targets,
    evaluation_settings,
    prompt_sets,
)
from unlearning.types import Example


def test_build_makes_the_object_with_plain_values(compose_config):
    data = build(compose_config("experiment=demo").data.forget)
    assert isinstance(data, SyntheticDataModule) and data.part == "harmful"


def test_a_misspelt_argument_names_the_nearest_even_behind_settings():
    node = {"_target_": "unlearning.data.JsonlDataModule", "source": "x", "fractoins": [1, 0, 0]}
    with pytest.raises(ConfigError, match=r"data\.forget.*'fractoins'.*'fractions'"):
        check_targets({"forget": node}, "data")


def test_an_unknown_target_is_named():
    with pytest.raises(ConfigError, match="JsonlDataModule"):
        check_targets({"_target_": "unlearning.data.JsonlDatamodule"})


def test_our_own_errors_come_through_unwrapped():
    with pytest.raises(ConfigError, match=r"^part='x'"):
        build({"_target_": "unlearning.data.SyntheticDataModule", "part": "x"})


def test_prompt_sets_are_whole_limited_and_of_one_answer_a_prompt(compose_config, tmp_path):
    lines = [
        '{"prompt": "a", "response": "1"}', '{"prompt": "a", "response": "2"}',
        '{"prompt": "b", "response": "3"}', '{"prompt": "c", "response": "4"}',
    ]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    module = JsonlDataModule(str(tmp_path / "x.jsonl"), fractions=(1.0, 0.0, 0.0))
    config = compose_config("experiment=demo")
    config.evaluation.prompt_sets = {
        "one": {"source": "forget", "split": "all", "kind": "harmful", "limit": None},
        "two": {"source": "forget", "split": "train", "kind": "harmful", "limit": 2},
        "none": {"source": "related", "split": "all", "kind": "related", "limit": None},
    }
    sets = prompt_sets(config, {"forget": module, "related": None})
    assert [s.name for s in sets] == ["one", "two"]
    assert sorted(e.prompt for e in sets[0].examples) == ["a", "b", "c"]
    assert [e.response for e in sets[0].examples if e.prompt == "a"] == ["1"]
    assert len(sets[1].examples) == 2


def test_an_argument_of_version_0_4_is_named_anew():
    node = {"_target_": "unlearning.data.LOTRDataModule", "source": "x.txt", "teach": "passages"}
    with pytest.raises(ConfigError, match=r"takes no 'teach'\. Did you mean 'finetune_on'"):
        build(node)


@pytest.mark.parametrize("limit", [None, 0, 1, 3, 100])
def test_one_example_a_prompt_is_the_first_in_the_order_of_the_last(limit):
    draw = random.Random(0)
    parts = [[Example(draw.choice("abcdef"), str(n)) for n in range(5)] for _ in range(3)]
    everything = [example for part in parts for example in part]
    naive = {example.prompt: example for example in reversed(everything)}
    assert _one_per_prompt(parts, limit) == list(naive.values())[::-1][:limit]
    assert _one_per_prompt([[]], limit) == []


def test_an_empty_prompt_set_is_an_error(compose_config):
    config = compose_config("experiment=demo")
    config.evaluation.prompt_sets = {
        "x": {"source": "related", "split": "train", "kind": "related", "limit": None}
    }
    with pytest.raises(ConfigError, match=r"prompt_sets\.x.*no example"):
        prompt_sets(config, build_data(config))


def test_auto_precision_is_full_on_a_cpu(compose_config):
    config = compose_config("experiment=demo", "trainer.precision=auto")
    assert build_trainer(config, max_steps=1).precision == "32-true"


@pytest.mark.parametrize("experiment", ["harmful", "copyright"])
def test_prompts_at_once_are_what_memory_holds_unless_a_number_is_given(compose_config, experiment):
    config = compose_config(f"experiment={experiment}")
    assert evaluation_settings(config).batch_size is None
    given = compose_config(f"experiment={experiment}", "evaluation.batch_size=8")
    assert evaluation_settings(given).batch_size == 8
