"""What kept answers and models depend on is in the key under which they are kept."""

from __future__ import annotations

import pytest

from unlearning.data import StoryDataModule
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.answers import kept_answers
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import Example, PromptSet

SETS = [PromptSet("x", "harmful", [Example("a", "b")])]


class AskedError(Exception):
    """Carries the inputs of a stage; nothing is made."""


class Recorder:
    ranks = Ranks()

    def get(self, stage, inputs, make, together=False):
        raise AskedError(inputs)


def inputs_of(config, base="owner/base", sets=SETS, classifier="judge", stage="before"):
    with pytest.raises(AskedError) as asked:
        kept_answers(config, Recorder(), base, sets, stage, None, {"id": classifier})
    return asked.value.args[0]


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.max_new_tokens=7",
        "data.max_length=99",
        "data.template.answer_prefix=x",
        "classifier.max_length=33",
        "classifier.labels=[toxic]",
        "model.revision=abc",
        "model.tokenizer=owner/other",
    ],
)
def test_a_setting_that_changes_the_answers_changes_the_key(compose_config, override):
    usual = inputs_of(compose_config("experiment=demo"))
    assert inputs_of(compose_config("experiment=demo", override)) != usual


def test_so_do_model_prompts_and_judge_and_a_loss_weight_does_not(compose_config):
    config = compose_config("experiment=demo")
    usual = inputs_of(config)
    assert inputs_of(config, base="owner/other") != usual
    assert inputs_of(config, classifier="other") != usual
    other = [PromptSet("x", "harmful", [Example("a", "c")])]
    assert inputs_of(config, sets=other) != usual
    assert inputs_of(compose_config("experiment=demo", "objective.forget.weight=9")) == usual
    assert inputs_of(config, stage="original") == usual  # the same answers, whatever for


def inputs_of_finetuning(config, base="owner/base", **book):
    with pytest.raises(AskedError) as asked:
        finetuned_model(
            config,
            Recorder(),
            base,
            {"forget": StoryDataModule(**book)},
            Tracking(config, "nowhere"),
        )
    return asked.value.args[0]


def test_the_finetuned_model_is_kept_by_recipe_base_and_book(compose_config):
    usual = inputs_of_finetuning(compose_config("experiment=copyright_demo"))
    for override in ("finetune.epochs=9", "finetune.adapter.r=3", "model.tokenizer=a/b", "seed=1"):
        changed = compose_config("experiment=copyright_demo", override)
        assert inputs_of_finetuning(changed) != usual, override
    config = compose_config("experiment=copyright_demo")
    assert inputs_of_finetuning(config, base="owner/other") != usual
    assert inputs_of_finetuning(config, chapters=[1, 5]) != usual
    for override in ("objective.forget.weight=9", "reference.of=finetuned", "unlearn.max_steps=3"):
        same = compose_config("experiment=copyright_demo", override)
        assert inputs_of_finetuning(same) == usual, override
