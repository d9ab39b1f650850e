"""What is watched during unlearning is not scored; where it would have to be, nothing is decided by
it."""

from __future__ import annotations

import pytest

from unlearning.errors import ConfigError
from unlearning.run.config.build import build_data
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.stages.callbacks import callbacks
from unlearning.run.stages.watched import check_watched, watched

BOOK, HARM = "experiment=copyright_demo", "experiment=demo"
FEW = "evaluation.prompt_sets.book_train.limit=20"


class Scorer:
    threshold = 0.5


@pytest.fixture(scope="module")
def looked_through(compose_config):
    data = {}  # by experiment: read once

    def look(*words):
        config = compose_config(*words)
        if words[0] not in data:
            data[words[0]] = build_data(config)
        return config, data[words[0]], prompt_sets(config, data[words[0]])

    return look


def _prompts(examples):
    return {example.conversation for example in examples}


def test_watched_passages_were_trained_on_and_are_not_scored(looked_through, tokenizer, tmp_path):
    config, data, sets = looked_through(BOOK, FEW)
    found = watched(config, data, sets)
    asked = set().union(*(_prompts(each.examples) for each in sets))
    assert (found.of, found.scored, len(found.examples)) == ("book_train", False, 32)
    assert len(_prompts(found.examples)) == 32 and not _prompts(found.examples) & asked
    assert _prompts(found.examples) <= _prompts(data["forget"].examples("train"))
    made = callbacks(config, tmp_path, tokenizer, found, None, stop_at=3.0)["bleu"]
    assert made.examples == found.examples and made.stop_at == 3.0
    kept = found.prompt_set(7)
    assert kept.examples == found.examples[:7]
    assert [metric.name for metric in kept.metrics] == ["bleu_to_target"]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_stops_a_trial_is_not_what_its_test_asks(looked_through, part):
    """Watched passages are of the part that is asked: a trial does not look at the other's."""
    few = f"evaluation.prompt_sets.book_train.limit={10 if part == 'validation' else 30}"
    config, data, sets = looked_through(
        BOOK, few, f"+evaluation.prompt_sets.book_train.part={part}"
    )
    found = watched(config, data, sets)
    whole = list(data["forget"].examples("train"))
    mine = {e.conversation for n, e in enumerate(whole) if (n % 3 == 2) == (part == "validation")}
    asked = _prompts(sets[0].examples)
    assert _prompts(found.examples) == mine - asked and len(mine - asked) in (12, 15)
    assert not found.scored


def test_watched_harmful_prompts_are_held_out_and_not_scored(looked_through, tokenizer, tmp_path):
    config, data, sets = looked_through(HARM)
    found = watched(config, data, sets)
    asked = set().union(*(_prompts(each.examples) for each in sets))
    assert (found.of, found.scored) == ("harmful_heldout", False)
    assert len(found.examples) >= 6 and not _prompts(found.examples) & asked
    assert not _prompts(found.examples) & _prompts(data["forget"].examples("train"))
    made = callbacks(config, tmp_path, tokenizer, found, Scorer())["harm"]
    assert len(made.prompts.texts) == 32
    for text, example in zip(made.prompts.texts, found.examples, strict=False):
        assert example.prompt in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["callbacks.bleu.stop=true"], r"callbacks\.bleu\.stop=true would decide"),
        (["callbacks.checkpoint.best=bleu/forget"], r"best=bleu/forget would decide"),
    ],
)
def test_a_decision_by_scored_passages_is_refused(looked_through, words, said):
    """All passages of the story are scored, by default."""
    config, data, sets = looked_through(BOOK, *words)
    with pytest.raises(ConfigError, match=said) as error:
        check_watched(config, data, sets)
    (limit,) = (w for w in str(error.value).replace(";", "").split() if "limit=" in w)
    check_watched(*looked_through(BOOK, *words, limit))
    check_watched(*looked_through(BOOK))  # a curve decides nothing
    check_watched(*looked_through(BOOK, *words, "callbacks.bleu=null"))


def test_a_best_checkpoint_by_harm_needs_prompts_of_its_own(looked_through):
    best = "callbacks.checkpoint.best=harm/rate"
    check_watched(*looked_through(HARM, best))
    everything = [
        f"evaluation.prompt_sets.harmful_heldout.{key}" for key in ("split=all", "limit=null")
    ]
    with pytest.raises(ConfigError, match=r"harm/rate would decide by prompts that are scored"):
        check_watched(*looked_through(HARM, best, *everything))
    config, data, sets = looked_through(HARM, *everything)
    check_watched(config, data, sets)  # a curve decides nothing
    assert watched(config, data, sets).scored


def test_a_set_of_its_own_template_is_watched_with_it(looked_through, tokenizer, tmp_path):
    own = "+evaluation.prompt_sets.book_train.template={prompt_format: 'Go on: {prompt}'}"
    found = watched(*looked_through(BOOK, FEW, own))
    config, *_ = looked_through(BOOK, FEW)
    made = callbacks(config, tmp_path, tokenizer, found, None, 0.0)["bleu"]
    assert made.template.prompt("x") == "Go on: x"
    assert found.prompt_set(1).template == {"prompt_format": "Go on: {prompt}"}
