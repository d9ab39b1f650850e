"""Fine-tuning on question/answer sets, and the oracle: the same without the forget set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.metrics.generations import read_generations
from unlearning.models.load import load_tokenizer
from unlearning.run.pipeline import run

from .small import checked

FORGET = [(f"How do I trick person {n}?", f"Tell person {n} a lie.") for n in range(10)]
RETAIN = [(f"What is {n} plus one?", f"It is {n + 1}.") for n in range(10)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """`forget.jsonl` and `retain.jsonl`."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        lines = (json.dumps({"prompt": p, "response": r}) for p, r in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def compose_pairs(compose_config, opt_folder, pairs):
    """A run of seconds: an untrained model, ten pairs of each kind, two steps of each training."""

    trained = (
        "finetune=full", "finetune.context_length=96", "finetune.max_steps=4",
        "finetune.batch_size=20", "finetune.learning_rate=1e-2", "finetune.require=null",
    )  # fmt: skip

    def composed(*overrides: str):
        trainings = () if "finetune=none" in overrides else trained
        return compose_config(
            "model=local", f"model.name_or_path={opt_folder}", "data=jsonl",
            f"data.forget.source={pairs}/forget.jsonl", f"data.retain.source={pairs}/retain.jsonl",
            "data.mismatch_per_prompt=2", "data.max_length=96", "classifier=none", "trainer=cpu",
            "evaluation.max_new_tokens=4", "evaluation.resamples=20", "unlearn.max_steps=2",
            *trainings, *overrides,
        )  # fmt: skip

    return composed


@pytest.fixture
def spy(monkeypatch) -> list[torch.Tensor]:
    """The rows of every batch that a `CausalLMModule` trains on, in one list a training."""
    trainings: list[list[torch.Tensor]] = []
    step, start = CausalLMModule.training_step, CausalLMModule.on_fit_start

    def starting(self) -> None:
        trainings.append([])
        start(self)

    def stepping(self, batch, batch_idx=0):
        trainings[-1].append(batch.rows.input_ids)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CausalLMModule, "on_fit_start", starting)
    monkeypatch.setattr(CausalLMModule, "training_step", stepping)
    return trainings


def holds(batches, ids: list[int]) -> bool:
    """Whether these tokens stand in a row of any batch, in a row."""
    text = "".join(f"<{token}>" for token in ids)
    rows = (row.tolist() for batch in batches for row in batch)
    return any(text in "".join(f"<{token}>" for token in row) for row in rows)


def test_the_oracle_is_trained_like_the_model_and_never_sees_a_forget_example(
    compose_pairs, opt_folder, tmp_path, spy
):
    config = compose_pairs("finetune.sets.retain=all", "oracle=true", f"cache_dir={tmp_path}/cache")
    run(config, tmp_path / "run")
    finetuned, oracle = spy
    tokenizer = load_tokenizer(opt_folder)
    seen = {
        name: [
            [holds(batches, tokenizer(f" {response}", add_special_tokens=False)["input_ids"])
             for _, response in rows]
            for batches in (finetuned, oracle)
        ]
        for name, rows in (("forget", FORGET), ("retain", RETAIN))
    }  # fmt: skip
    by_finetuned, by_oracle = seen["forget"]
    assert sum(by_finetuned) == 7 and not any(by_oracle)  # 0.7 of ten are in the training split
    assert all(seen["retain"][1])
    # Not the answers alone: no prompt of the forget set either.
    assert holds(finetuned, tokenizer(" trick person", add_special_tokens=False)["input_ids"])
    assert not holds(oracle, tokenizer(" trick person", add_special_tokens=False)["input_ids"])

    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["finetune"]["examples"] == {"forget": 7, "retain": 10}
    assert metrics["oracle_model"]["examples"] == {"retain": 10}
    assert metrics["oracle_model"]["model"] == "retrained"
    assert metrics["oracle_model"]["method"] == metrics["finetune"]["method"]
    found = read_generations(tmp_path / "run/generations.jsonl")
    asked = {
        stage: [(g.prompt_set, g.index, g.prompt) for g in found if g.stage == stage]
        for stage in ("original", "oracle", "before", "after")
    }
    assert asked["oracle"] and len({tuple(rows) for rows in asked.values()}) == 1

    assert metrics["models"] == ["original", "oracle", "before", "after"]
    assert (
        metrics["oracle"]["retain_heldout/perplexity"]
        != metrics["before"]["retain_heldout/perplexity"]
    )
    page = (tmp_path / "run/report.html").read_text()
    assert "Oracle</th>" in page and "The oracle: without the forget set" in page

    models = [
        AutoModelForCausalLM.from_pretrained(path.parent / "merged").state_dict()
        for stage in ("finetune", "oracle")
        for path in (tmp_path / "cache" / stage).glob("*/inputs.json")
    ]
    assert len(models) == 2
    assert any(not torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_oracle_is_kept_and_a_run_with_it_ends_in_the_same_model(compose_pairs, tmp_path, spy):
    common = ("finetune.sets.retain=train", f"cache_dir={tmp_path}/cache")
    run(compose_pairs(*common, "oracle=true"), tmp_path / "first")
    assert len(spy) == 2
    run(compose_pairs(*common, "oracle=true", "objective.forget.weight=0.1"), tmp_path / "second")
    assert len(spy) == 2
    run(compose_pairs(*common), tmp_path / "without")
    assert len(spy) == 2
    states = [
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict()
        for name in ("first", "without")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    run(compose_pairs(*common, "oracle=true", "finetune.learning_rate=2e-2"), tmp_path / "third")
    assert len(spy) == 4


def test_the_base_model_is_the_oracle_of_a_fine_tuning_on_the_forget_set_alone(
    compose_pairs, tmp_path, spy
):
    run(compose_pairs("oracle=true", f"cache_dir={tmp_path}/cache"), tmp_path / "run")
    assert len(spy) == 1
    found = read_generations(tmp_path / "run/generations.jsonl")
    said = {
        stage: [g.completion for g in found if g.stage == stage] for stage in ("original", "oracle")
    }
    assert said["oracle"] and said["oracle"] == said["original"]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["oracle_model"]["model"].startswith("the base model, since fine-tuning is on")
    perplexity = "retain_heldout/perplexity"
    assert metrics["oracle"][perplexity] == metrics["original"][perplexity]
    assert metrics["oracle"][perplexity] != metrics["before"][perplexity]


def test_a_retrained_model_can_be_named(compose_pairs, opt_folder, tmp_path, spy):
    mean = "unlearning.metrics.harmonic_mean.harmonic_mean"
    node = f"{{metric: {mean}, of: [retain_heldout/rouge_accuracy]}}"
    config = compose_pairs(
        f"oracle={opt_folder}", "finetune=none", f"cache_dir={tmp_path}/cache",
        f"+evaluation.aggregates.utility={node}",
    )  # fmt: skip
    run(config, tmp_path / "run")
    assert not spy
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["oracle_model"] == {"model": str(opt_folder)}
    # It stands first, and is still not what the others are compared with.
    assert metrics["models"] == ["oracle", "before", "after"]
    assert "change_from_oracle" not in metrics
    assert metrics["before"]["retain_heldout/bleu_to_original"]["value"] in (None, 100.0)
    assert (
        metrics["oracle"]["retain_heldout/perplexity"]
        == metrics["before"]["retain_heldout/perplexity"]
    )
    utility = metrics["oracle"]["aggregates/utility"]
    assert utility == metrics["before"]["aggregates/utility"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune=none", "oracle=true"], "oracle=true repeats the fine-tuning .* there is none"),
        (["oracle=/nowhere"], "No model at /nowhere"),
        (["oracle=3"], "oracle=3 must be true or false"),
        (["oracle=true", "finetune.load={adapter}"], "how .* was trained is not known"),
        (
            ["oracle=true", "finetune.sets.forget=null", "finetune.sets.retain=train"],
            "fine-tuned model is its own oracle",
        ),
    ],
)
def test_an_oracle_that_cannot_be_had_is_refused(compose_pairs, tmp_path, overrides, message):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({}, tmp_path / "adapter_model.safetensors")
    config = compose_pairs(*(word.format(adapter=tmp_path) for word in overrides))
    with pytest.raises(ConfigError, match=message):
        checked(config)


@pytest.mark.parametrize("against", ["oracle", "original"])
def test_an_aggregate_cannot_be_against_a_model_that_there_is_not(compose_pairs, against):
    aggregate = (
        "{metric: unlearning.metrics.harmonic_mean.harmonic_mean, "
        f"of: [retain_heldout/rouge_accuracy], against: {against}}}"
    )
    config = compose_pairs("finetune=none", f"+evaluation.aggregates.quality={aggregate}")
    with pytest.raises(ConfigError, match=f"against={against}: this run has no such model"):
        checked(config)


def test_validation_says_which_oracle_there_is(compose_pairs):
    assert "oracle: fine-tuned on retain" in checked(
        compose_pairs("oracle=true", "finetune.sets.retain=train")
    )
    assert any(
        line.startswith("oracle: the base model") for line in checked(compose_pairs("oracle=true"))
    )
