"""`data.template` and `evaluation.stop` as they come from a command line."""

from __future__ import annotations

import pytest

from unlearning.data import ChatTemplate, PromptTemplate
from unlearning.errors import ConfigError
from unlearning.run.checks.targets import check_targets
from unlearning.run.config.build import (
    build_base_data,
    build_data,
    build_template,
    evaluation_settings,
)
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.config.schema import check_schema

QUESTION = PromptTemplate("### Question: {prompt}\n### Answer:", " ", append_eos=True)
SETS = {
    "synthetic": QUESTION, "jsonl": QUESTION, "pku_truthfulqa": QUESTION,
    "pku_truthfulqa_files": QUESTION, "story": PromptTemplate("{prompt}", "", append_eos=False),
    "lotr_bookcorpus": PromptTemplate("{prompt}", "", append_eos=False),
}  # fmt: skip


@pytest.mark.parametrize("data", SETS)
def test_every_data_set_has_its_template_and_takes_others(compose_config, data):
    assert build_template(compose_config(f"data={data}")) == SETS[data]
    assert build_template(compose_config(f"data={data}", "data/template=chat")) == ChatTemplate()
    other = build_template(compose_config(f"data={data}", "data/template=question"))
    assert other == QUESTION


def test_what_is_written_as_a_newline_on_the_command_line_is_one(compose_config):
    config = compose_config(
        "experiment=demo", r'data.template.prompt_format="Q: {prompt}\nA:\t"',
        r'data.template.answer_prefix="\n"', r'evaluation.stop=["\nQ:", "\tA"]',
    )  # fmt: skip
    check_schema(config)
    assert build_template(config) == PromptTemplate("Q: {prompt}\nA:\t", "\n")
    assert build_template(config).prompt("1") == "Q: 1" + chr(10) + "A:" + chr(9)
    assert evaluation_settings(config).stop == ("\nQ:", "\tA")
    assert evaluation_settings(compose_config("evaluation.stop=Q")).stop == ("Q",)
    assert evaluation_settings(compose_config()).stop == ()


def test_a_configuration_of_version_0_5_has_no_stop_strings_and_its_template(compose_config):
    config = compose_config("experiment=demo")
    del config.evaluation.stop
    config.data.template = {"prompt_format": "Q: {prompt}", "answer_prefix": " "}
    check_schema(config)
    assert evaluation_settings(config).stop == ()
    assert build_template(config) == PromptTemplate("Q: {prompt}")


def test_settings_of_a_chat(compose_config):
    config = compose_config(
        "data=synthetic", "trainer=cpu", "data/template=chat", r'data.template.system="Be\nbrief."',
        "data.template.enable_thinking=true", "+data.template.options.date_string=today",
    )  # fmt: skip
    check_schema(config)
    check_targets(config)
    expected = ChatTemplate("Be\nbrief.", enable_thinking=True, options={"date_string": "today"})
    assert build_template(config) == expected
    assert "template" not in build_data(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+data.template._target_=os.system", r"data\.template\._target_=os\.system is not taken"),
        ("evaluation.stop=['']", r"evaluation\.stop\[0\]=''"),
        ("evaluation.stop=3", r"evaluation\.stop=3"),
        ("data.template.prompt_format=Q", r"prompt_format must contain \{prompt\} exactly once"),
    ],
)
def test_what_is_no_template_is_refused(compose_config, override, message):
    config = compose_config("experiment=demo", override)
    with pytest.raises(ConfigError, match=message):
        check_schema(config)
        check_targets(config)
        build_template(config)


def test_a_model_from_scratch_has_no_chat_format(compose_config):
    config = compose_config("experiment=demo", "data/template=chat")
    with pytest.raises(ConfigError, match=r"ChatTemplate, and a model from scratch \(model\.base"):
        build_base_data(config)


def test_a_prompt_set_changes_settings_of_the_runs_own_template(compose_config):
    own = "+evaluation.prompt_sets.related.template"
    config = compose_config("experiment=demo", "data/template=chat", own + ".system=Brief")
    check_schema(config)
    found = {each.name: each.template for each in prompt_sets(config, build_data(config))}
    assert found["related"] == {"system": "Brief"} and found["harmful_train"] == {}
    wrong = compose_config("experiment=demo", "data/template=chat", own + ".answer_prefix=x")
    with pytest.raises(ConfigError, match=r"unknown 'answer_prefix'; expected system, enable_t"):
        prompt_sets(wrong, build_data(wrong))
