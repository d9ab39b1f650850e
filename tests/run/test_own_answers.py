"""`data.answers`: the stage in which the model answers the retain prompts, and its key."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from unlearning.data.encode import encode_prompts
from unlearning.errors import ConfigError
from unlearning.models.load import load_tokenizer
from unlearning.module import UnlearningModule
from unlearning.run.config.answers import check_answers
from unlearning.run.config.build import build_data, build_template
from unlearning.run.output.store import Store
from unlearning.run.pipeline import run
from unlearning.run.stages.own_answers import kept_own_answers, retain_and_mismatch

from .small import RETAIN, checked


@pytest.fixture(scope="module")
def compose_own(compose_config, opt_folder, pairs):
    """A run of seconds whose untrained model answers in eight tokens; they need make no sense."""

    def composed(*overrides: str):
        return compose_config(
            "model=local", f"model.name_or_path={opt_folder}", "data=jsonl", "data/answers=model",
            f"data.forget.source={pairs}/forget.jsonl", f"data.retain.source={pairs}/retain.jsonl",
            "data.mismatch_per_prompt=2", "data.max_length=96", "classifier=none", "trainer=cpu",
            "evaluation.max_new_tokens=4", "evaluation.resamples=20", "unlearn.max_steps=2",
            "data.answers.max_new_tokens=8", "data.answers.keep_broken=true", *overrides,
        )  # fmt: skip

    return composed


@pytest.fixture
def asked(compose_own, tmp_path, opt_folder):
    """The model's answers under a configuration, in one store."""

    def answers(*overrides: str):
        config = compose_own(*overrides)
        data, store = build_data(config), Store(tmp_path / "cache")
        return config, data, *kept_own_answers(config, store, str(opt_folder), data)

    return answers


def test_the_key_changes_with_what_the_answers_depend_on(asked, tmp_path):
    assert not asked()[3]
    assert asked("unlearn.max_steps=7", "data.answers.retain=both", "seed=3", "method=npo")[3]
    changed = (
        "data.answers.max_new_tokens=7", "data.answers.limit=5", "data.answers.keep_broken=false",
        "data.answers.temperature=1", "data.template.prompt_format='Q: {prompt}'", "data.seed=5",
        "evaluation.stop=[lie]",
    )  # fmt: skip
    for other in changed:
        try:
            assert not asked(other)[3], other
        except ConfigError as error:  # an untrained model's answers can all be broken
            assert "empty or broken" in str(error)
    assert len(list((tmp_path / "cache/own_answers").glob("*/answers.jsonl"))) == 1 + len(changed)


def test_what_each_term_is_on(asked):
    config, data, own, _ = asked()
    gold = list(data["retain"].examples("train"))
    expected = {"data": gold, "model": own.examples, "both": [*gold, *own.examples]}
    for retain in expected:
        for mismatch in expected:
            config.data.answers.retain, config.data.answers.mismatch = retain, mismatch
            listed, pool = retain_and_mismatch(config, data, own)
            listed = listed.examples("train") if listed is data["retain"] else listed
            assert list(listed) == expected[retain]
            assert list(listed if pool is None else pool) == expected[mismatch]
    # Of prompts that are trained on alone: none of another split is asked.
    assert {each.prompt for each in own.examples} <= {each.prompt for each in gold}
    assert retain_and_mismatch(config, data, None) == (data["retain"], None)


def test_no_gold_answer_is_trained_on(compose_own, opt_folder, tmp_path, monkeypatch):
    """And a second run with another loss takes the same answers."""
    batches = []
    step = UnlearningModule.training_step

    def stepping(self, batch, batch_idx=0):
        batches.append(batch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(UnlearningModule, "training_step", stepping)
    run(compose_own(f"cache_dir={tmp_path}/cache"), tmp_path / "first")
    (kept,) = (tmp_path / "cache/own_answers").glob("*/answers.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    own = {tuple(ids) for _, _, _, ids in rows}
    tokenizer = load_tokenizer(opt_folder)
    trained = [
        tuple(batch.answers[role].targets[batch.answers[role].sequence == place].tolist())
        for batch in batches
        for role in ("retain", "mismatch")
        for place in range(batch.answers[role].num_sequences)
    ]
    assert len(trained) == 2 * (2 + 4) and set(trained) <= own
    gold = {tuple(tokenizer(f" {r}", add_special_tokens=False)["input_ids"]) for _, r in RETAIN}
    assert not {ids[:-1] for ids in trained} & gold
    # They are what the model says: greedily, from the base it started from.
    config = compose_own()
    model = AutoModelForCausalLM.from_pretrained(opt_folder).eval()
    prompt, _, _, ids = rows[0]
    example = next(e for e in build_data(config)["retain"].examples("train") if e.prompt == prompt)
    (row,) = encode_prompts([example], tokenizer, build_template(config))
    for token in ids:
        with torch.no_grad():
            assert int(model(torch.tensor([row])).logits[0, -1].argmax()) == token
        row = [*row, token]
    metrics = json.loads((tmp_path / "first/metrics.json").read_text())
    assert metrics["own_answers"]["asked"] == 14 and metrics["own_answers"]["kept"] == len(rows)
    assert "own answers" in metrics["seconds"]
    assert any("own answers" in note for note in metrics["notes"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.answers.retain=gold"], r"^data\.answers\.retain='gold' must be one of data, model"),
        (["data.answers.max_new_tokens=0"], r"^data\.answers\.max_new_tokens=0 must be a whole"),
        (
            ["data.answers.samples=3"],
            r"samples=3 greedy answers .* Set data\.answers\.temp",
        ),
        (["data.answers.top_p=0.9"], r"top_p=0\.9 has no meaning for greedy answers"),
        (["data.answers.temperature=0"], r"temperature=0 must be a number above 0"),
        (["+data.answers.sample=3"], r"data\.answers takes no 'sample'|data\.answers\.sample"),
    ],
)
def test_wrong_settings_are_refused(compose_own, overrides, message):
    with pytest.raises(ConfigError, match=message):
        checked(compose_own(*overrides))


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        ("data/answers=model", "data.answers.max_new_tokens"),
        ("method=on_policy", "method.max_new_tokens"),
    ],
)
def test_answers_leave_room_for_a_prompt(choice, key, compose_config):
    config = compose_config("experiment=demo", choice, f"{key}=128")
    message = rf"^{key}=128 leaves no room for a prompt in data\.max_length=128\."
    with pytest.raises(ConfigError, match=message):
        check_answers(config, streamed=False)
    config = compose_config("experiment=demo", choice, f"{key}=127")
    check_answers(config, streamed=False)


def test_on_policy_needs_a_term_on_retain_answers(compose_config):
    config = compose_config("experiment=demo", "method=on_policy", "objective.retain.weight=0")
    with pytest.raises(ConfigError, match=r"objective\.retain\.weight a value above 0"):
        check_answers(config, streamed=False)


def test_on_policy_continuations_need_room(compose_own):
    words = ("method=on_policy", "data/answers=data", "method.max_new_tokens=90")
    with pytest.raises(ConfigError, match=r"max_new_tokens=90, together more than max_length=96"):
        checked(compose_own(*words))


def test_a_run_on_policy(compose_own, tmp_path):
    """And its mismatch answers are the model's own."""
    words = ("method=on_policy", "method.max_new_tokens=4", "data.answers.retain=data")
    run(compose_own(*words, f"cache_dir={tmp_path}/cache"), tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["reference"] == "Copy" and metrics["steps"] == 2
    assert metrics["own_answers"]["kept"] > 0


@pytest.fixture
def prompts_alone(tmp_path, records) -> tuple[str, ...]:
    """A retain set of questions and of the beginnings of passages, none with an answer of use."""
    lines = (json.dumps({"prompt": p}) for p, _ in RETAIN)
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    questions = (
        f"{{_target_: unlearning.data.PromptsDataModule, source: {tmp_path}/prompts.jsonl, "
        "fractions: [0.8, 0.0, 0.2]}"
    )
    passages = (
        f"{{_target_: unlearning.data.BookCorpusDataModule, source: {records}/prose, "
        "streaming: false, window_words: 20, train_prompts: 4, fractions: [1.0, 0.0, 0.0]}"
    )
    joined = f"{{_target_: unlearning.data.JoinedDataModule, sets: [{questions}, {passages}]}}"
    return "~data.retain", f"+data.retain={joined}"


def test_prompts_alone_are_retained_by_the_models_own_answers(asked, prompts_alone):
    config, data, own, _ = asked(*prompts_alone)
    assert checked(config)
    prompts = {each.prompt for each in data["retain"].examples("train")}
    passages = prompts - {p for p, _ in RETAIN}
    assert len(prompts) == 20 and len(passages) == 4
    assert own.asked == 20 and {each.prompt for each in own.examples} <= prompts
    assert passages & {each.prompt for each in own.examples}
    assert all(each.response_ids for each in own.examples)


@pytest.mark.parametrize("term", ["retain", "mismatch"])
def test_prompts_alone_have_no_answers_of_their_own(compose_own, prompts_alone, term):
    for of in ("data", "both"):
        config = compose_own(*prompts_alone, f"data.answers.{term}={of}")
        with pytest.raises(ConfigError, match=r"prompts without answers.*Choose data/answers=mod"):
            checked(config)


def test_a_stream_cannot_be_answered_beforehand(compose_config, records, tmp_path):
    (tmp_path / "book.txt").write_text("Chapter 1\n" + "A ship sailed. " * 400, encoding="utf-8")
    config = compose_config(
        "experiment=copyright", f"data.forget.source={tmp_path}/book.txt", "trainer=cpu",
        f"data.retain.source={records}/prose", "data/answers=model", "model=opt_1.3b",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"data\.retain is streamed.*streaming=false"):
        checked(config)


def test_a_configuration_of_before_has_the_answers_of_the_data(compose_own):
    from omegaconf import open_dict

    from unlearning.run.config.answers import answers_of, asks_model

    config = compose_own()
    assert asks_model(config)
    with open_dict(config):
        del config.data.answers
    assert checked(config)
    assert answers_of(config, "retain") == "data" and not asks_model(config)
