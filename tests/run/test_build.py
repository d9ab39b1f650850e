"""From configuration to objects: arguments are checked, errors name the key."""

from __future__ import annotations

import pytest

from unlearning.data import ExampleDataModule, SyntheticDataModule
from unlearning.errors import ConfigError
from unlearning.run.config.build import evaluation_settings
from unlearning.run.config.targets import build, check_target


def test_build_makes_the_object_with_plain_values(compose_config):
    data = build(compose_config("experiment=demo").data.forget, ExampleDataModule, "data.forget")
    assert isinstance(data, SyntheticDataModule) and data.part == "harmful"


def test_a_misspelt_argument_names_the_nearest_even_behind_settings():
    node = {"_target_": "unlearning.data.JsonlDataModule", "source": "x", "fractoins": [1, 0, 0]}
    with pytest.raises(ConfigError, match=r"data\.forget.*'fractoins'.*'fractions'"):
        check_target(node, ExampleDataModule, "data.forget")


def test_an_unknown_target_is_named():
    with pytest.raises(ConfigError, match="JsonlDataModule"):
        check_target({"_target_": "unlearning.data.JsonlDatamodule"}, ExampleDataModule, "data")


def test_an_error_of_the_class_has_the_key():
    node = {"_target_": "unlearning.data.SyntheticDataModule", "part": "everyday"}
    with pytest.raises(ConfigError, match=r"^data\.forget: .*fractions"):
        build({**node, "fractions": [0.0, 0.5, 0.5]}, ExampleDataModule, "data.forget")


def test_an_argument_of_version_0_4_is_named_anew():
    node = {"_target_": "unlearning.data.LOTRDataModule", "source": "x.txt", "teach": "passages"}
    with pytest.raises(ConfigError, match=r"takes no 'teach'\. Did you mean 'finetune_on'"):
        build(node, ExampleDataModule, "data.forget")


@pytest.mark.parametrize("experiment", ["harmful", "copyright"])
def test_prompts_at_once_are_what_memory_holds_unless_a_number_is_given(compose_config, experiment):
    config = compose_config(f"experiment={experiment}")
    assert evaluation_settings(config).batch_size is None
    given = compose_config(f"experiment={experiment}", "evaluation.batch_size=8")
    assert evaluation_settings(given).batch_size == 8
