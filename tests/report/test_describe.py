from __future__ import annotations

import pytest

from unlearning.report.describe import Term, describe
from unlearning.report.figures import DASH


def test_facts_of_a_configuration(config):
    about = describe(config)
    assert about.title == "Mildly harmful advice"
    assert about.learning_rate == "2e-06"  # that of the unlearning, not the classifier's
    assert about.terms == (
        Term("forget", "0.5", "bounded_ascent (cap 10.0)"),
        Term("retain", "1.0", "kl_to_reference"),
    )


def test_an_empty_configuration_is_all_dashes():
    about = describe({})
    assert (about.forgotten, about.model, about.learning_rate) == (DASH, DASH, DASH)
    assert about.title == "Forgetting an unnamed forget set"
    assert about.terms == ()


def test_title_without_a_description(config):
    del config["description"]
    assert describe(config).title == "Forgetting PKU (PKU-Alignment/PKU-SafeRLHF)"


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (None, "none, all weights trained"),
        ({}, "LoRA"),
        ({"r": 8}, "LoRA, rank 8"),
        ({"kind": "adalora", "r": 8}, "AdaLoRA, rank 8"),
    ],
)
def test_adapter(lora, said, config):
    config["model"]["lora"] = lora
    assert describe(config).adapter == said


def test_base_model_made_in_the_run(config):
    config["model"] = {"name_or_path": None, "base": {"vocab_size": 1600}}
    assert describe(config).model == "base model trained in this run"


def test_reference_and_fine_tuning_are_those_that_were_used(book_config):
    assert describe(book_config).reference == "auto"
    assert (describe(book_config).finetune, describe(book_config).finetuned_with) == ((), "")
    facts = {"method": "LoRA, rank 16", "final_nll": 0.25, "seconds": 75.0, "x": {"y": 2}}
    about = describe(
        book_config, {"reference": "Cached", "reference_of": "base", "finetune": facts}
    )
    assert about.reference == "the model before fine-tuning (Cached)"
    assert about.finetuned_with == "LoRA, rank 16"
    shown = [("final nll", "0.250"), ("time", "1 min 15 s"), ("x y", "2")]
    assert about.finetune == (("method", "LoRA, rank 16"), *shown)
