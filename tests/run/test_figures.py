"""What the report could not compute is refused before any work."""

from __future__ import annotations

import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.run.small import checked
from unlearning.errors import ConfigError
from unlearning.metrics.metric import metric
from unlearning.run.config.evaluate import evaluation_config, evaluation_overrides

NLL = "unlearning.metrics.perplexity.target_nll"
ACCURACY = "unlearning.metrics.choice.choice_accuracy"
HERE = "tests.run.test_figures"


@metric("Length", name="length")
def length(answers):
    return np.array([float(len(answer.completion)) for answer in answers])


@metric("Picky", name="picky")
def picky(answers):
    return np.array([float(answer.completion.split(":")[7]) for answer in answers])


@metric("Sum", name="sum")
def total(first, second):
    return first.value + second.value


@pytest.fixture
def check(compose_config, opt_folder, tmp_path):
    """`check(sets, aggregates)`: an evaluation of one model on ten questions."""

    def checked_with(sets=None, aggregates=None, words=()):
        rows = [
            json.dumps({"prompt": f"{n} plus one?", "response": f"{n}", "options": ["a", "b"]})
            for n in range(10)
        ]
        (tmp_path / "rows.jsonl").write_text("\n".join(rows))
        given = ["data=jsonl", "data.forget=null", f"data.retain.source={tmp_path}/rows.jsonl",
                 "trainer=cpu", "+data.retain.alternatives={choices: options}",
                 "classifier=none", "data.max_length=64"]  # fmt: skip
        config = compose_config(*evaluation_overrides([str(opt_folder), *given, *words]))
        sets = {"asked": [NLL]} if sets is None else sets
        plain = OmegaConf.to_container(config)
        plain["evaluation"]["prompt_sets"] = {
            name: {"source": "retain", "metrics": m} if isinstance(m, list) else m
            for name, m in sets.items()
        }
        plain["evaluation"]["aggregates"] = aggregates
        return checked(evaluation_config(OmegaConf.create(plain)))

    return checked_with


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"asked": [NLL, NLL]}, "target_nll"),
        ({"a": [NLL], "b": [{"path": NLL, "label": "Mine"}]}, "target_nll"),
        ({"asked": [ACCURACY]}, r"evaluation: .*label"),
        ({"asked": [{"path": NLL, "interval": f"{HERE}.Interval"}]}, "Interval is no interval"),
        ({"asked": [{"path": NLL, "name": "a/b"}]}, "name='a/b' must not have a '/'"),
        ({"aggregates": [NLL]}, "take another name"),
        ({"asked": {"source": "retain", "limit": -1}}, "limit=-1"),
        ({"asked": {"source": "retain", "limit": -2}}, "limit=-2"),
        ({"asked": [{"path": NLL, "direction": "up"}]}, "direction='up'"),
    ],
)
def test_sets_that_are_refused(check, sets, message):
    with pytest.raises(ConfigError, match=message):
        check(sets)


@pytest.mark.parametrize(
    ("name", "by", "of", "message"),
    [
        ("all", "total", ["asked/bleu_to_original", "asked/length"], "aggregate all is of"),
        ("all", "total", ["asked/length"], "does not take what it is given: total"),
        ("length", "total", ["asked/length", "asked/target_nll"], "length"),
        ("all", "total", ["asked/nll", "asked/length"], "is not measured; choose from"),
    ],
)
def test_aggregates_that_are_refused(check, name, by, of, message):
    sets = {"asked": {"source": "retain", "kind": "retain", "metrics": [f"{HERE}.length"]}}
    with pytest.raises(ConfigError, match=message):
        check(sets, {name: {"metric": f"{HERE}.{by}", "of": of}})


class Interval:
    """A class where a function is expected."""


def test_a_metric_that_wants_more_than_is_made_up_is_left_to_the_run(check, caplog):
    check({"asked": [f"{HERE}.picky"]})
    assert "Not all metrics could be tried before the run: IndexError" in caplog.text


def test_an_embedding_model_that_is_none_is_found_before_the_training(check, opt_folder):
    with pytest.raises(ConfigError, match=r"evaluation\.embedding: .* is no encoder of sentences"):
        check(words=[f"evaluation.embedding={opt_folder}"])


def test_what_can_be_computed_is_valid(check, caplog):
    sets = {"a": [NLL, f"{HERE}.length"], "b": {"source": "retain"}}
    lines = check(sets, {"all": {"metric": f"{HERE}.total", "of": ["a/target_nll", "a/length"]}})
    assert "prompt set a: 10 prompts" in lines and "could be tried" not in caplog.text
