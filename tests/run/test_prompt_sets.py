"""Prompt sets of any name and source, with metrics of their own."""

from __future__ import annotations

import json
import random

import pytest
import torch
from omegaconf import OmegaConf

from unlearning.data import ChatTemplate, JsonlDataModule, PromptTemplate
from unlearning.data.template import template_of
from unlearning.errors import ConfigError
from unlearning.metrics.generations import write_generations
from unlearning.metrics.prompt_sets import described, metrics_of, needs_of
from unlearning.run.config.aggregates import aggregates
from unlearning.run.config.build import build_data, build_template
from unlearning.run.config.precision import evaluation_dtype
from unlearning.run.config.prompt_sets import (
    PARTS,
    check_metrics,
    one_per_prompt,
    prompt_sets,
)
from unlearning.types import Example, Generation

FACTS = {"_target_": "unlearning.data.JsonlDataModule", "fractions": [1.0, 0.0, 0.0]}
CHOICE = "unlearning.metrics.choice.choice_accuracy"


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
    assert [(s.split, s.source) for s in sets] == [("all", "forget"), ("train", "forget")]


@pytest.mark.parametrize("limit", [None, 0, 1, 3, 100])
def test_one_example_a_prompt_is_the_first_in_the_order_of_the_last(limit):
    draw = random.Random(0)
    parts = [[Example(draw.choice("abcdef"), str(n)) for n in range(5)] for _ in range(3)]
    everything = [example for part in parts for example in part]
    naive = {example.prompt: example for example in reversed(everything)}
    assert one_per_prompt(parts, limit) == list(naive.values())[::-1][:limit]
    assert one_per_prompt([[]], limit) == []


def test_the_parts_of_a_split_share_no_prompt_and_are_all_of_it():
    """Repeated prompts stand on one side; every third prompt is to choose by, under any limit."""
    draw = random.Random(1)
    examples = [Example(str(draw.randrange(40)), str(n)) for n in range(100)]
    whole = one_per_prompt([examples], None)
    chooses, reports = (one_per_prompt([examples], None, part) for part in PARTS)
    assert chooses == whole[2::3] and sorted([*chooses, *reports], key=whole.index) == whole
    assert not {e.prompt for e in chooses} & {e.prompt for e in reports}
    assert one_per_prompt([examples], 5, "test") == reports[:5]


def test_a_part_is_of_one_split_and_is_told(compose_config):
    """The story's taught passages: 22 choose, 45 report; of a set without a part nothing is."""
    words = ["experiment=copyright_demo", "evaluation=copyright_validation"]
    config = compose_config(*words)
    data = build_data(config)
    (book, prose) = prompt_sets(config, data)
    whole = list(data["forget"].examples("train"))
    assert (book.split, book.part, book.examples) == ("train", "validation", whole[2::3])
    assert (prose.split, prose.part) == ("test", "validation")
    usual = compose_config("experiment=copyright_demo")
    sets = prompt_sets(usual, data)
    assert [each.part for each in sets] == [""] * 3 and sets[0].examples == whole
    found = [described(each, {s.name: metrics_of(s) for s in each}) for each in ((book,), sets)]
    assert found[0]["book_validation"]["part"] == "validation"
    assert not any("part" in facts for facts in found[1].values())
    config = compose_config(*words, "evaluation.prompt_sets.book_validation.split=all")
    with pytest.raises(ConfigError, match=r"part='validation' must be one of .*, of one split"):
        prompt_sets(config, data)


def test_an_empty_prompt_set_is_an_error(compose_config):
    config = compose_config("experiment=demo")
    config.evaluation.prompt_sets = {
        "x": {"source": "related", "split": "train", "kind": "related", "limit": None}
    }
    with pytest.raises(ConfigError, match=r"prompt_sets\.x.*no example"):
        prompt_sets(config, build_data(config))


def _with_set(compose_config, **settings):
    config = compose_config("experiment=demo")
    OmegaConf.set_struct(config, False)
    config.evaluation.prompt_sets = {"facts": settings}
    return config


def test_a_set_has_its_own_data_metrics_and_template(compose_config, tmp_path):
    rows = [{"prompt": f"q{i}", "response": "yes", "options": ["no", "yes"]} for i in range(3)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {
        **FACTS, "source": str(tmp_path / "facts.jsonl"), "alternatives": {"choices": "options"},
    }  # fmt: skip
    metrics = [
        CHOICE,
        {"path": f"{CHOICE}_norm", "name": "by_bytes", "options": {"length": "bytes"}},
    ]
    template = {"prompt_format": "Q: {prompt} A:", "append_eos": False}
    config = _with_set(compose_config, source=source, metrics=metrics, template=template)
    data = build_data(config)
    assert set(data) == {"forget", "retain", "related", "evaluation.facts"}
    (found,) = prompt_sets(config, data)
    assert (found.kind, found.split, found.source) == ("", "all", "evaluation.facts")
    assert [m.name for m in metrics_of(found)] == ["choice_accuracy", "by_bytes"]
    assert metrics_of(found)[1].options == {"length": "bytes"}
    assert needs_of(found) == {"alternatives"}  # nothing is generated
    assert found.template == template
    assert found.examples[0].alternative("choices") == ("no", "yes")


def test_a_data_set_of_any_name_is_a_source(compose_config, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "response": "b"}')
    config = _with_set(compose_config, source="trivia")
    config.data.trivia = {**FACTS, "source": str(tmp_path / "x.jsonl")}
    (found,) = prompt_sets(config, build_data(config))
    assert found.examples == [Example("a", "b")]
    assert {"perplexity", "bleu_to_target"} <= {m.name for m in metrics_of(found)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "nowhere"}, r"facts: source='nowhere' must be one of \['forget'"),
        ({"source": "forget", "kind": "book"}, "kind='book' must be one of harmful, copyright"),
        ({"source": "forget", "split": "tset"}, "split='tset' must be one of train"),
        ({"source": "forget", "metric": "x"}, "unknown 'metric'; expected source, split"),
        (
            {"source": "forget", "metrics": ["nope.x"]},
            r"s\[0\]: Cannot import 'nope.x'",
        ),
        ({"source": "forget", "metrics": ["json.dumps"]}, "expected a function declared with"),
        ({"source": "forget", "metrics": [3]}, r"metrics\[0\] is 3; expected an import path"),
        (
            {"source": "forget", "metrics": [{"path": CHOICE, "options": {"n": 1}}]},
            "takes no 'n'",
        ),
        ({"source": "forget", "template": {"prompt": "x"}}, "template: unknown 'prompt'"),
    ],
)
def test_what_a_set_cannot_be_is_refused(settings, said, compose_config):
    config = _with_set(compose_config, **settings)
    with pytest.raises(ConfigError, match=said):
        prompt_sets(config, build_data(config))


MEAN = "unlearning.metrics.harmonic_mean.harmonic_mean"


def test_aggregates_name_figures_and_another_models_answers(compose_config, tmp_path):
    config = _with_set(compose_config, source="forget", kind="retain", limit=2)
    sets = prompt_sets(config, build_data(config))
    rows = [Generation(s, "facts", 0, "a", "b", "c") for s in ("before", "after")]
    write_generations(tmp_path / "g.jsonl", rows)
    of = ["facts/rouge_accuracy", "facts/exact_match"]
    config.evaluation.aggregates = {
        "utility": {"metric": MEAN, "of": of, "label": "Utility"},
        "other": {"metric": MEAN, "of": of[:1], "against": str(tmp_path / "g.jsonl")},
    }
    found = aggregates(config, sets)
    assert (found["utility"].of, found["utility"].metric.label) == (tuple(of), "Utility")
    assert not found["utility"].others and found["other"].others == rows[1:]
    config.evaluation.aggregates = {"utility": {"metric": MEAN, "of": ["facts/nope"]}}
    with pytest.raises(ConfigError, match=r"utility.of: \['facts/nope'\] is not measured"):
        aggregates(config, sets)


def test_metrics_are_checked_before_the_data_are_there(compose_config):
    config = _with_set(compose_config, source="forget", kind="harmful", metrics=["json.dumps"])
    config.evaluation.prompt_sets.off = None
    with pytest.raises(ConfigError, match=r"prompt_sets.facts.metrics\[0\]: 'json.dumps' is a fun"):
        check_metrics(config)


def test_a_set_has_a_template_and_a_length_of_its_own_whatever_the_run_s(compose_config, records):
    config = compose_config(
        "experiment=real_harmful", "sources=folder", f"sources.folder={records}",
        "data.forget.fractions=[0.5,0.25,0.25]",
    )  # fmt: skip
    sets = {each.name: each for each in prompt_sets(config, build_data(config))}
    assert set(sets) == {
        "harmful_train", "harmful_heldout", "retain_heldout", "related", "mmlu", "hellaswag",
    }  # fmt: skip
    chat = build_template(config)
    assert isinstance(chat, ChatTemplate)
    assert template_of(sets["mmlu"], chat) == PromptTemplate("{prompt}\nAnswer:", " ", False)
    assert template_of(sets["hellaswag"], chat) == PromptTemplate("{prompt}", " ", False)
    assert template_of(sets["related"], chat) == chat
    assert (sets["mmlu"].max_length, sets["related"].max_length) == (2048, None)
    assert needs_of(sets["mmlu"]) == needs_of(sets["hellaswag"]) == {"alternatives"}
    config.evaluation.prompt_sets.mmlu.template = {"_target_": "unlearning.data.JsonlDataModule"}
    with pytest.raises(ConfigError, match=r"mmlu\.template\._target_.*Template"):
        prompt_sets(config, build_data(config))


@pytest.mark.parametrize(
    ("asked", "cpu", "dtype"),
    [
        ("32-true", True, torch.float32), ("bf16-true", False, torch.bfloat16),
        ("bf16-auto", True, torch.bfloat16), ("bf16-auto", False, torch.float32),
        (None, True, torch.float32),
    ],
)  # fmt: skip
def test_the_precision_of_answers(compose_config, monkeypatch, asked, cpu, dtype):
    monkeypatch.setattr("unlearning.run.config.precision.cpu_multiplies_bf16", lambda: cpu)
    config = compose_config("experiment=demo", "trainer=cpu")
    if asked is None:  # of a version that had no such key
        del config.evaluation.precision
    else:
        config.evaluation.precision = asked
    assert evaluation_dtype(config) == dtype
