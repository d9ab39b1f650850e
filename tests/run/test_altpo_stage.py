"""`data/alternate=model`: the stage in which the model gives other answers to the forget prompts,
what they are kept under, and what is said about wrong settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from unlearning.errors import ConfigError
from unlearning.generation import alternate_answers as asking
from unlearning.generation.generate import Completion
from unlearning.models.load import load_tokenizer
from unlearning.module import UnlearningModule
from unlearning.run.config.answers import asks_for_alternates, check_answers
from unlearning.run.config.build import build_alternate, build_data
from unlearning.run.output.store import Store
from unlearning.run.pipeline import effective_config, prepare, run
from unlearning.run.process.spawn import spawn
from unlearning.run.stages.alternate_answers import kept_alternate_answers

from .small import FORGET, SMALL, checked

ASKS = "data.alternate.instruction='{prompt} Not {answer}'"


@pytest.fixture(scope="module")
def compose_altpo(compose_config, opt_folder, pairs):
    """A run of seconds whose untrained model answers in six tokens; they need make no sense."""

    def composed(*overrides: str):
        return compose_config(
            "model=local", f"model.name_or_path={opt_folder}", "data=jsonl", "method=altpo",
            f"data.forget.source={pairs}/forget.jsonl", f"data.retain.source={pairs}/retain.jsonl",
            "data.max_length=96", "classifier=none", "trainer=cpu", "data/template=question",
            "evaluation.max_new_tokens=4", "evaluation.resamples=20", "unlearn.max_steps=2",
            ASKS, "data.alternate.max_new_tokens=6", "data.alternate.samples=3",
            "data.alternate.keep_broken=true", "data.alternates_per_prompt=2", *overrides,
        )  # fmt: skip

    return composed


@pytest.fixture
def asked(compose_altpo, tmp_path, opt_folder):
    """The model's answers under a configuration, in one store."""

    def answers(*overrides: str):
        config = compose_altpo(*overrides)
        data, store = build_data(config), Store(tmp_path / "cache")
        return config, data, *kept_alternate_answers(config, store, str(opt_folder), data)

    return answers


def test_the_key_changes_with_what_the_answers_depend_on(asked, tmp_path):
    assert not asked()[3]
    assert asked("unlearn.max_steps=7", "seed=3", "data/answers=model", "reference.mode=copy")[3]
    changed = (
        "data.alternate.max_new_tokens=7", "data.alternate.samples=4",
        "data.alternate.temperature=0.9", "data.alternate.top_p=0.9", "data.alternate.seed=1",
        "data.alternate.keep_broken=false", "data.alternates_per_prompt=1",
        "data.alternate.instruction='{prompt} Not: {answer}'", "data.seed=5",
        "data.template.prompt_format='Q: {prompt}'", "evaluation.stop=[lie]",
    )  # fmt: skip
    for other in changed:
        try:
            assert not asked(other)[3], other
        except ConfigError as error:  # an untrained model's answers can all be broken
            assert other.startswith("data.alternate.keep_broken") and "fewer than" in str(error)
    kept = list((tmp_path / "cache/alternate_answers").glob("*/answers.jsonl"))
    assert len(kept) == 1 + len(changed)


def test_the_key_changes_with_model_and_forget_set(asked, compose_altpo, tmp_path, opt_folder):
    config, data, _, _ = asked()
    store = Store(tmp_path / "cache")
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in opt_folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    assert not kept_alternate_answers(config, store, str(copied), data)[1]
    rows = ({"prompt": p, "response": f"{r} Now."} for p, r in FORGET)  # the answers alone
    (tmp_path / "forget.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    other = build_data(compose_altpo(f"data.forget.source={tmp_path}/forget.jsonl"))
    assert not kept_alternate_answers(config, store, str(opt_folder), other)[1]


def test_only_training_prompts_are_asked_and_each_has_enough(asked):
    _, data, found, _ = asked()
    training = {each.conversation for each in data["forget"].examples("train")}
    assert training < {prompt for prompt, _ in FORGET}  # some are held out
    assert {each.conversation for each in found.examples} == training
    assert found.asked >= 3 * len(training)
    for prompt in training:
        said = [each.response_ids for each in found.examples if each.prompt == prompt]
        assert len(set(said)) == len(said) >= 2


def test_a_run_pairs_them_with_their_prompts_and_the_next_run_takes_them(
    compose_altpo, opt_folder, tmp_path, monkeypatch
):
    batches = []
    step = UnlearningModule.training_step

    def stepping(self, batch, batch_idx=0):
        batches.append(batch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(UnlearningModule, "training_step", stepping)
    run(compose_altpo(f"cache_dir={tmp_path}/cache"), tmp_path / "first")
    (kept,) = (tmp_path / "cache/alternate_answers").glob("*/answers.jsonl")
    written = kept.stat().st_mtime_ns
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    own = {(prompt, tuple(ids)) for prompt, _, _, ids in rows}
    tokenizer = load_tokenizer(opt_folder)
    gold = {
        tuple(tokenizer(f" {r}", add_special_tokens=False)["input_ids"]): p for p, r in FORGET
    }  # fmt: skip
    pairs = 0
    for batch in batches:
        forget, alternate = batch.answers["forget"], batch.answers["alternate"]
        prompts = {
            int(forget.prompt[n]): gold[tuple(forget.targets[forget.sequence == n].tolist())[:-1]]
            for n in range(forget.num_sequences)
        }
        for n in range(alternate.num_sequences):
            ids = tuple(alternate.targets[alternate.sequence == n].tolist())
            assert (prompts[int(alternate.prompt[n])], ids) in own
            pairs += 1
    assert pairs == 2 * 2 * 2  # steps, prompts, alternates_per_prompt
    metrics = json.loads((tmp_path / "first/metrics.json").read_text())
    facts = metrics["alternate_answers"]
    assert facts["kept"] == len(rows) and facts["asked"] >= 3 * 7
    assert "alternate answers" in metrics["seconds"] and "own_answers" not in metrics
    assert any("alternate answers of the model were cut" in note for note in metrics["notes"])
    run(compose_altpo(f"cache_dir={tmp_path}/cache", "unlearn.max_steps=1"), tmp_path / "second")
    assert kept.stat().st_mtime_ns == written
    assert len(list(kept.parent.parent.glob("*/answers.jsonl"))) == 1


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_ranks_make_them_once_and_train_on_the_same(compose_altpo, opt_folder, tmp_path):
    """And one process with their batch goes on with what they have made."""
    common = (f"cache_dir={tmp_path}/cache", "unlearn.max_steps=3", "unlearn.learning_rate=0.05")
    # Adam would scale up the rounding of gradients that are 0, such as of a key's bias.
    common = (*common, "unlearn.optimizer=torch.optim.SGD", "unlearn.warmup_steps=0")
    common = (*common, "data.alternates_per_prompt=1")  # so that they are drawn
    rank = ("unlearn.batch_size=1", "unlearn.retain_batch_size=1")
    devices = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    config = compose_altpo(*common, *rank, *devices, "trainer.precision=32-true")
    prepare(config, tmp_path / "two")
    assert spawn(tmp_path / "two", 2, resume=False) == 0
    (kept,) = (tmp_path / "cache/alternate_answers").glob("*/answers.jsonl")
    written = kept.stat().st_mtime_ns
    whole = ("unlearn.batch_size=2", "unlearn.retain_batch_size=2")
    run(compose_altpo(*common, *whole), tmp_path / "one")
    assert kept.stat().st_mtime_ns == written
    assert len(list(kept.parent.parent.glob("*/answers.jsonl"))) == 1
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text())["alternate_answers"]
        for name in ("one", "two")
    )
    assert first == second
    folders = (tmp_path / "one/model", tmp_path / "two/model", opt_folder)
    ours, theirs, before = (load_file(folder / "model.safetensors") for folder in folders)
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-4, atol=2e-5)
    assert max((ours[name] - before[name]).abs().max() for name in ours) > 1e-3


def test_the_model_that_is_asked_is_the_one_that_unlearns(compose_altpo, tmp_path, monkeypatch):
    """Also where the reference is the one before a fine-tuning."""
    names = []

    def kept(config, store, model, data):
        names.append(model)
        raise InterruptedError

    monkeypatch.setattr("unlearning.run.stages.alternate_answers.kept_alternate_answers", kept)
    words = (
        "finetune=full",
        "finetune.context_length=64",
        "finetune.max_steps=1",
        "finetune.require=null",
        "reference.of=base",
    )
    words = (*words, "finetune.sets={retain: train}", f"cache_dir={tmp_path}/cache")
    with pytest.raises(InterruptedError):
        run(compose_altpo(*words), tmp_path / "run")
    assert len(names) == 1 and Path(names[0]).is_relative_to(tmp_path / "cache/finetune")


def test_prompts_without_enough_answers_are_named(asked, monkeypatch, tmp_path):
    def generate(model, tokenizer, rows, *others):
        return [Completion("no", (7, 2), True)] * len(rows)

    monkeypatch.setattr(asking, "generate", generate)
    message = (
        r"asked twice for data\.alternate\.samples=3 .*'How do I trick person \d\?'.*"
        r"fewer than data\.alternates_per_prompt=2.*so it is with 6 more prompts.*Raise"
    )
    for _ in range(2):  # what the model said is kept, and so is the error
        with pytest.raises(ConfigError, match=message):
            asked()
    assert len(list((tmp_path / "cache/alternate_answers").glob("*/answers.jsonl"))) == 1


def test_answers_that_do_not_fit_the_context_name_the_settings(asked):
    with pytest.raises(ConfigError, match=r"^data\.alternate: .*max_new_tokens=90, together more"):
        asked("data.alternate.max_new_tokens=90", "data.alternate.instruction='{prompt}{prompt}'")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.alternate.instruction='Another!'"],
            r"^data\.alternate\.instruction=.*needs {prompt}",
        ),
        (["data.alternate.instruction='{prompt} {x}'"], r"\.instruction=.*{x} stands for nothing"),
        (["data.alternate.instruction=null"], r"\.instruction=null must be text with {prompt}"),
        (["data.alternate.samples=0"], r"^data\.alternate\.samples=0 must be a whole number of at"),
        (
            ["data.alternate.samples=4", "data.alternates_per_prompt=5"],
            r"^data\.alternate\.samples=4 .*fewer than data\.alternates_per_prompt=5\. Raise",
        ),
        (["data.alternate.temperature=null"], r"^data\.alternate\.temperature=null must be a num"),
        (["data.alternate.top_p=0"], r"^data\.alternate\.top_p=0 must be a number above 0"),
        (["data.alternate.of=base"], r"^data\.alternate\.of='base' must be model"),
        (["+data.alternate.sample=3"], r"^Unknown key 'data\.alternate\.sample'.*'samples'"),
        (["~data.alternate.instruction"], r"^data\.alternate\.instruction is missing"),
        (["data.alternate=no"], r"^data\.alternate='no' must be a list of text"),
    ],
)
def test_wrong_settings_are_refused(compose_altpo, overrides, message):
    with pytest.raises(ConfigError, match=message):
        checked(compose_altpo(*overrides))


def test_answers_leave_room_for_a_prompt(compose_config):
    for words, of in ((["method=altpo"], "alternate"), (["data/answers=model"], "answers")):
        config = compose_config("experiment=demo", *words, f"data.{of}.max_new_tokens=128")
        with pytest.raises(ConfigError, match=rf"^data\.{of}\.max_new_tokens=128 leaves no room"):
            check_answers(config, streamed=False)


def test_other_methods_can_ask_too_and_weight_edits_never_do(compose_config):
    demo, own = "experiment=demo", "+data/alternate=model"
    altpo = compose_config(demo, "method=altpo")
    dpo = compose_config(demo, "method=dpo", own)
    assert (altpo.data, altpo.objective) == (dpo.data, dpo.objective)
    assert asks_for_alternates(altpo) and build_alternate(altpo) is None
    assert not asks_for_alternates(compose_config(demo, "method=task_vector", own))
    for texts in ("method=idk_dpo", "method=npo"):
        assert not asks_for_alternates(compose_config(demo, texts))
    replaced = compose_config(
        demo, "method=altpo", "~data.alternate", "+data.alternate=[I do not know.]"
    )
    assert not asks_for_alternates(replaced) and build_alternate(replaced) == ["I do not know."]
    checked(altpo)
    checked(dpo)
    checked(replaced)


def test_a_configuration_of_before_has_no_alternate_answers(compose_config):
    config = compose_config("experiment=demo")
    OmegaConf.set_struct(config, False)
    del config.data.alternate
    assert not asks_for_alternates(config)
    effective_config(compose_config("experiment=demo", "trainer=debug"))


@pytest.mark.slow
def test_the_demo_with_few_steps(compose_config, tmp_path):
    """Its model has learned nothing: few short answers to each prompt, whatever they are."""
    words = ("experiment=demo", "method=altpo", "trainer=debug", *SMALL)
    config = compose_config(*words, f"cache_dir={tmp_path}/cache")
    alternate = effective_config(config).data.alternate
    assert (alternate.samples, alternate.max_new_tokens, alternate.keep_broken) == (2, 8, True)
    run(config, tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["reference"] == "Copy" and metrics["steps"] == 3
    number = len(build_data(config)["forget"].examples("train"))
    assert metrics["alternate_answers"]["asked"] >= 2 * number
    assert metrics["alternate_answers"]["kept"] >= number
