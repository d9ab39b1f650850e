"""`unlearn evaluate`: the metrics of models as they are, without a training."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_opt

from unlearning.errors import BAD_INPUT, ConfigError
from unlearning.metrics.comparison import compare
from unlearning.metrics.generations import read_generations
from unlearning.metrics.prompt_sets import metrics_of
from unlearning.models.adapter import add_lora, merge_adapter
from unlearning.models.load import load_model, load_tokenizer, save_model
from unlearning.pretrain import train_tokenizer
from unlearning.run.config.build import build_data, comparison_settings
from unlearning.run.config.evaluate import evaluation_config, evaluation_overrides
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.pipeline import run
from unlearning.run.stages import answers
from unlearning.run.start import start

SETTINGS = (
    "data=jsonl", "data.mismatch_per_prompt=2", "data.max_length=96", "trainer=cpu",
    "classifier=none", "evaluation.max_new_tokens=5", "evaluation.resamples=50",
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = {
        "forget": [(f"How do I trick person {n}?", f"Tell person {n} a lie.") for n in range(10)],
        "retain": [(f"What is {n} plus one?", f"It is {n + 1}.") for n in range(10)],
    }
    for name, found in rows.items():
        lines = (json.dumps({"prompt": p, "response": r}) for p, r in found)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory, opt_folder) -> Path:
    """Another model with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer = load_tokenizer(opt_folder)
    tiny_opt(len(tokenizer), seed=7).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def composed(compose_config, pairs):
    """`composed("evaluate", model, "key=value")` as the command line would compose it."""

    def compose(command: str, *words: str):
        sources = [f"data.{name}.source={pairs}/{name}.jsonl" for name in ("forget", "retain")]
        if command == "evaluate":
            return compose_config(*evaluation_overrides([*SETTINGS, *sources, *words]))
        return compose_config(*SETTINGS, *sources, *words)

    return compose


@pytest.fixture(autouse=True)
def log_files_are_closed():
    """A run logs to its folder until the process ends, which here has other tests to do."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers = before


def metrics_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluated(composed, opt_folder, other_folder, tmp_path_factory) -> Path:
    """Folders `a`, `b` and `both`, of two models; one store of kept answers."""
    root = tmp_path_factory.mktemp("evaluated")
    a, b, cache = str(opt_folder), str(other_folder), f"cache_dir={root}/cache"
    for name, models in {"a": [a], "b": [b], "both": [a, b]}.items():
        run(composed("evaluate", *models, cache), root / name)
    return root


def test_it_leaves_what_a_run_leaves_but_no_model(evaluated):
    found = {path.name for path in (evaluated / "a").iterdir()}
    assert found >= {"config.yaml", "metrics.json", "generations.jsonl", "report.html"}
    assert not found & {"model", "checkpoints", "losses.csv"}
    metrics = metrics_in(evaluated / "a")
    assert metrics["models"] == ["model"] and "change" not in metrics
    page = (evaluated / "a/report.html").read_text()
    assert "<h1>Evaluation of " in page and 'id="training"' not in page
    assert metrics["notes"][0].startswith("There is no classifier, so that harm was not measured")
    assert "Prompt set related was left out: there is no data.related." in metrics["notes"]


def test_a_folder_scores_what_the_stage_before_of_a_run_scores(
    composed, opt_folder, evaluated, tmp_path
):
    config = composed(
        "run", "model=local", f"model.name_or_path={opt_folder}", "unlearn.max_steps=1",
        f"cache_dir={tmp_path}/cache",  # a store of its own: nothing is reused
    )  # fmt: skip
    run(config, tmp_path / "run")
    theirs, ours = metrics_in(tmp_path / "run")["before"], metrics_in(evaluated / "a")["model"]
    assert len(ours) > 20
    # What compares with another model's answers is not there for one alone.
    assert all("_to_original" in name for name in theirs.keys() - ours.keys())
    assert ours == {name: theirs[name] for name in ours}


def test_two_models_are_compared_as_compare_does(composed, opt_folder, evaluated):
    config = evaluation_config(composed("evaluate", str(opt_folder)))
    sets = prompt_sets(config, build_data(config))
    one, other = (read_generations(evaluated / name / "generations.jsonl") for name in "ab")
    expected = compare(
        {"before": one, "after": other}, {each.name: metrics_of(each) for each in sets},
        comparison_settings(config),
    )  # fmt: skip
    found = metrics_in(evaluated / "both")
    for part in ("before", "after", "change"):
        assert found[part] == json.loads(json.dumps(expected[part])) and found[part]
    changes = [each["value"] for each in found["change"].values()]
    assert any(changes)


def test_answers_are_kept_for_every_later_question(
    composed, opt_folder, other_folder, evaluated, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("answered again")

    monkeypatch.setattr(answers, "evaluate", refuse)
    a, b, cache = str(opt_folder), str(other_folder), f"cache_dir={evaluated}/cache"
    run(composed("evaluate", b, a, cache), tmp_path / "reversed")
    forward, back = metrics_in(evaluated / "both"), metrics_in(tmp_path / "reversed")
    key = "retain_heldout/perplexity"
    assert forward["change"][key]["value"] == pytest.approx(-back["change"][key]["value"])
    with pytest.raises(AssertionError, match="answered again"):
        run(composed("evaluate", a, cache, "evaluation.max_new_tokens=4"), tmp_path / "longer")


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_an_adapter_is_evaluated_on_its_base(composed, opt_folder, tmp_path, own_tokenizer):
    tokenizer = load_tokenizer(opt_folder)
    policy = add_lora(load_model(opt_folder), r=2, dropout=0.0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_model(policy, tokenizer if own_tokenizer else None, tmp_path / "adapter")
    save_model(merge_adapter(policy), tokenizer, tmp_path / "merged")
    cache = f"cache_dir={tmp_path}/cache"
    for name in ("adapter", "merged"):
        run(composed("evaluate", str(tmp_path / name), cache), tmp_path / f"of_{name}")
    one, other = (
        read_generations(tmp_path / f"of_{name}" / "generations.jsonl")
        for name in ("adapter", "merged")
    )
    assert [g.completion for g in one] == [g.completion for g in other]
    bare = read_generations(
        _run_folder(composed("evaluate", str(opt_folder), cache), tmp_path / "of_base")
    )
    for ours, theirs, base in zip(one, other, bare, strict=True):
        assert ours.target_nll == pytest.approx(theirs.target_nll, rel=1e-5)
        assert ours.target_nll != pytest.approx(base.target_nll, rel=1e-3)


def test_each_of_two_models_has_a_tokenizer_of_its_own(composed, opt_folder, tmp_path):
    """By hand: the same words are other tokens to the second, and their number differs."""
    tokenizer = train_tokenizer(["Tell person a lie. It is one plus What trick"] * 3, 280)
    tiny_opt(len(tokenizer), seed=7).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    models = [str(opt_folder), str(tmp_path / "other")]
    path = _run_folder(
        composed("evaluate", *models, f"cache_dir={tmp_path}/cache"), tmp_path / "run"
    )
    tokenizers = {"before": load_tokenizer(opt_folder), "after": tokenizer}
    counts = {"before": [], "after": []}
    for found in read_generations(path):
        ids = tokenizers[found.stage](f" {found.target}", add_special_tokens=False)["input_ids"]
        assert found.target_tokens == len(ids) + 1  # and the end token
        counts[found.stage].append(len(ids))
    assert counts["before"] != counts["after"]


def test_the_base_of_an_adapter_can_be_named(composed, opt_folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(opt_folder, moved)
    save_model(add_lora(load_model(moved), dropout=0.0), None, tmp_path / "adapter")
    shutil.rmtree(moved)
    words = [str(tmp_path / "adapter"), f"cache_dir={tmp_path}/cache"]
    with pytest.raises(ConfigError, match=r"No model at .*moved"):
        run(composed("evaluate", *words), tmp_path / "first")
    run(composed("evaluate", *words, f"model.base={opt_folder}"), tmp_path / "second")


def _run_folder(config, folder: Path) -> Path:
    run(config, folder)
    return folder / "generations.jsonl"


def test_data_that_no_prompt_set_uses_is_not_read(composed, opt_folder, tmp_path):
    config = composed(
        "evaluate", str(opt_folder), "data.retain.source=/nowhere/retain.jsonl", "method=npo",
        "evaluation.prompt_sets.retain_heldout=null", f"cache_dir={tmp_path}/cache",
    )  # fmt: skip
    run(config, tmp_path / "run")
    assert set(metrics_in(tmp_path / "run")["fingerprints"]) == {"forget"}


def test_it_resumes_by_its_own_configuration(composed, opt_folder, tmp_path, monkeypatch):
    config = composed("evaluate", str(opt_folder), f"cache_dir={tmp_path}/cache")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("unlearning.run.stages.report.compared", interrupt)
        assert start(config, tmp_path / "run") == 130
    logging.getLogger().handlers[0].close()
    monkeypatch.setattr(answers, "evaluate", interrupt)  # the answers are there
    assert start(config, tmp_path / "run", resume=True, compare=True) == 0
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.slow
def test_a_recipe_is_followed_and_harm_is_judged(compose_config, tmp_path, capfd):
    words = ["experiment=demo", "trainer=debug", f"cache_dir={tmp_path}/cache"]
    assert start(compose_config(*evaluation_overrides(words)), tmp_path / "run") == 0
    lines = capfd.readouterr().out.splitlines()
    stages = [line.split(":")[0] for line in lines if line.startswith("[") and "..." not in line]
    assert stages == [
        "[1/4] base", "[2/4] classifier", "[3/4] evaluate model", "[4/4] report",
    ]  # fmt: skip
    metrics = metrics_in(tmp_path / "run")
    assert metrics["evaluated"] == {"model": "model.base"} and metrics["notes"] == []
    assert metrics["model"]["harmful_heldout/harmful_rate"]["n"] == 4


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere/model"], "No model at /nowhere/model"),
        (["{model}", "/nowhere/model"], "No model at /nowhere/model"),
        (["{bare}"], "model.name_or_path={bare}: {bare} holds no tokenizer"),
        (["{model}", "{bare}"], "compare_with={bare}: {bare} holds no tokenizer"),
        (["{model}", "data.max_length=4000"], "data.max_length=4000 is above the context of"),
        (
            ["{model}", "+evaluation.prompt_sets.retain_heldout.max_length=4000"],
            "prompt_sets.retain_heldout.max_length=4000 is above the context of",
        ),
        (["{model}", "data.forget.source=/nowhere.jsonl"], "/nowhere.jsonl"),
        (["{model}", "data.forget.source=???"], "These keys need a value: data.forget.source"),
        (
            ["{model}", "data.forget=null", "data.retain=null"],
            "There is nothing to ask: prompt set harmful_train is from data.forget",
        ),
        (["{model}", "evaluation.prompt_sets.related.source=mine"], "source='mine' must be one of"),
        (["{model}", "classifier=pretrained"], "These keys need a value: classifier.model"),
        (
            ["{model}", "classifier=pretrained", "classifier.model=/nowhere/judge"],
            "No model at /nowhere/judge",
        ),
        (["{model}", "evaluation.max_new_tokens=0"], "evaluation.max_new_tokens=0 must be"),
        (["model.name_or_path=null"], "No model to evaluate. Name one: unlearn evaluate"),
        (["{model}", "task=train"], "task='train': choose unlearn or evaluate"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    composed, opt_folder, tmp_path, capsys, words, message
):
    bare = tmp_path / "bare"
    load_model(opt_folder).save_pretrained(bare)
    places = {"model": opt_folder, "bare": bare}
    config = composed("evaluate", *(word.format(**places) for word in words))
    assert start(config, tmp_path / "run") == BAD_INPUT
    assert message.format(**places) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_words_of_the_command_line():
    assert evaluation_overrides(["a b", "x=1", "--cfg", "job", "-c", "all"]) == [
        "task=evaluate", "name=evaluate", "model.name_or_path='a b'", "x=1", "--cfg", "job", "-c",
        "all",
    ]  # fmt: skip
    for words, models in (
        (["--config-dir=conf", "gpt2"], ["gpt2"]),
        (["--config-dir", "conf", "gpt2"], ["gpt2"]),
        (["-cd", "conf", "-m", "gpt2", "x=1"], ["gpt2"]),
        (["./runs/lr=0.1/model", "/runs/lr=1/model"], ["./runs/lr=0.1/model", "/runs/lr=1/model"]),
        (["../a=b"], ["../a=b"]),
    ):
        found = [w.split("=", 1)[1] for w in evaluation_overrides(words)[2:] if "'" in w]
        assert found == [f"'{model}'" for model in models]
    with pytest.raises(ConfigError, match="takes one model, or two to compare, not 3: a, b, c"):
        evaluation_overrides(["a", "b", "c"])


def test_a_run_that_trains_compares_its_own_models(composed, opt_folder, tmp_path, capsys):
    config = composed("run", "model=local", f"model.name_or_path={opt_folder}", "compare_with=x")
    assert start(config, tmp_path / "run") == BAD_INPUT
    assert "two models are compared by unlearn evaluate" in capsys.readouterr().err


def test_the_command(opt_folder, pairs, tmp_path):
    environment = {**os.environ, "UNLEARNING_CACHE": str(tmp_path / "cache")}
    words = [*SETTINGS, f"data.forget.source={pairs}/forget.jsonl", "data.retain=null"]
    command = [sys.executable, "-m", "unlearning.cli", "evaluate", str(opt_folder), *words]
    result = subprocess.run(
        [*command, "hydra.run.dir=found"], cwd=tmp_path, env=environment, text=True,
        capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "found/report.html").is_file()
    assert "Report: " in result.stdout and "Model:" not in result.stdout
