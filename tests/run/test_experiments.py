"""Every experiment's configuration, from records to report, a few steps long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearning.classifier import JIGSAW_LABELS
from unlearning.metrics.choice import choice_accuracy
from unlearning.metrics.comparison import compare
from unlearning.metrics.generations import read_generations
from unlearning.metrics.kinds import metrics_of_kind
from unlearning.run.config.overrides import config_folder
from unlearning.run.pipeline import run
from unlearning.run.stages.callbacks import build_guard

from .small import SMALL

CHECKOUT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))


DEMO = ("experiment=demo", "trainer=debug", *SMALL)
HARMFUL = ["classifier", "base", "evaluate before", "unlearn", "evaluate after"]
COPYRIGHT = [
    "base", "evaluate original", "finetune", "evaluate before", "unlearn", "evaluate after",
]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(
    records: Path, opt_folder: Path, bert_folder: Path, library: Path
) -> dict[str, list[str]]:
    """What stands in for the hub, by experiment."""
    book = [f"data.retain.source={library}/prose", "data.retain.section_windows=3"]
    return {
        "demo": [*SMALL],
        "copyright_demo": [*SMALL],
        "copyright": [
            f"model.name_or_path={opt_folder}",
            f"data.forget.source={library}/book.txt",
            *book,
            "data.max_length=100",
            "evaluation.max_new_tokens=16",
            "finetune.context_length=64",
        ],
        "real_copyright": [
            f"model.name_or_path={opt_folder}",
            f"book={library}/book.txt",
            f"prose={library}/prose",
            "data.forget.chapter_pattern=auto",
            "data.forget.chapters=null",
            "layers=all-linear",
            "data.retain.section_windows=3",
            "data.max_length=100",
            "data.answers.keep_broken=true",
            "data.answers.max_new_tokens=16",
            "evaluation.embedding=null",
            "evaluation.max_new_tokens=16",
            "finetune.context_length=64",
        ],
        "copyright_scratch": [
            f"book={library}/book.txt",
            f"prose={library}/prose",
            "data.retain.section_windows=3",
            "model.base.vocab_size=300",
            *SMALL,
        ],
        "harmful": [
            f"model.name_or_path={opt_folder}",
            f"data.forget.source={records}/pku_saferlhf/pairs.jsonl",
            f"data.retain.source={records}/truthfulqa/TruthfulQA.csv",
            "data.max_length=100",
            f"classifier.model={bert_folder}",
            f"classifier.train.data.source={records}/jigsaw/toxic_binary.csv",
            "classifier.train.data.max_length=64",
            "classifier.max_length=64",
        ],
        "real_harmful": [  # without a chat template, which the tiny model has none of
            "sources=folder",
            f"sources.folder={records}",
            f"model.name_or_path={opt_folder}",
            "data/template=question",
            "data.max_length=100",
            "layers=all-linear",
            f"classifier.model={bert_folder}",
            f"classifier.train.data.labels=[{','.join(JIGSAW_LABELS)}]",
            "classifier.train.data.max_length=64",
            "classifier.max_length=64",
            "evaluation.prompt_sets.mmlu.max_length=128",
            "evaluation.embedding=null",
        ],
        "harmful_scratch": [
            f"records={records}",
            f"related={CHECKOUT}/experiments/harmful/related.jsonl",
            "model.base.vocab_size=300",
            *SMALL,
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_fast_run_leaves_everything(name, overrides, compose_config, tmp_path):
    config = compose_config(
        f"experiment={name}", "trainer=debug", f"cache_dir={tmp_path}/cache", *overrides[name]
    )
    folder = tmp_path / "run"
    report = run(config, folder)

    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"before", "after", "change", "models", "metrics"} <= metrics.keys()
    assert metrics["steps"] == config.debug.steps
    stages = COPYRIGHT if "copyright" in name else HARMFUL
    own = [] if config.data.answers.retain == "data" else ["own answers"]
    assert list(metrics["seconds"]) == [*stages[:-2], *own, *stages[-2:]]
    assert metrics["peak_memory_mb"] > 0 and metrics["versions"]["torch"] == torch.__version__
    assert report == folder / "report.html" and "<html" in report.read_text()
    assert len((folder / "losses.csv").read_text().splitlines()) == 1 + config.debug.steps

    generations = read_generations(folder / "generations.jsonl")
    original, before, after = (
        [g for g in generations if g.stage == stage] for stage in ("original", "before", "after")
    )
    sets = {
        n: metrics_of_kind(s["kind"]) if s["generated"] else (choice_accuracy,)
        for n, s in metrics["prompt_sets"].items()
    }
    models = {"original": original, "before": before, "after": after}
    again = compare({n: rows for n, rows in models.items() if rows}, sets)
    assert ("original" in again) == ("original" in metrics) == ("copyright" in name)
    for part in ("original", "before", "after", "change", "change_from_original") if original else (
        "before", "after", "change",
    ):  # fmt: skip
        for key, entry in again[part].items():
            assert entry["value"] == pytest.approx(metrics[part][key]["value"], nan_ok=True), key


@pytest.mark.slow
def test_the_saved_model_is_the_evaluated_one(compose_config, tmp_path):
    config = compose_config(*DEMO, f"cache_dir={tmp_path}/cache")
    run(config, tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    row = next(
        g for g in read_generations(tmp_path / "run/generations.jsonl") if g.stage == "after"
    )
    ids = tokenizer(f"### Question: {row.prompt}\n### Answer:", return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=config.evaluation.max_new_tokens, do_sample=False)
    text = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert text == row.completion
    assert "arXiv" in (tmp_path / "run/model/README.md").read_text()


@pytest.mark.slow
def test_what_was_done_is_kept_and_what_changed_is_done_again(compose_config, tmp_path, capsys):
    common = [*DEMO, f"cache_dir={tmp_path}/cache"]
    run(compose_config(*common), tmp_path / "first")
    capsys.readouterr()
    run(compose_config(*common, "objective.forget.weight=0.25"), tmp_path / "second")
    lines = capsys.readouterr().out.splitlines()
    kept = [line.split("]")[1].split(":")[0].strip() for line in lines if "kept from" in line]
    assert kept == ["classifier", "base", "evaluate before"]
    saved = OmegaConf.load(tmp_path / "second/config.yaml")
    assert saved.objective.forget.weight == 0.25

    capsys.readouterr()
    seeds = ("seed=1", "data.seed=1", "classifier.seed=1", "model.base.seed=1")
    run(compose_config(*common, *seeds), tmp_path / "third")
    assert "kept from" not in capsys.readouterr().out


def test_experiments_are_all_covered(overrides):
    assert set(EXPERIMENTS) == set(overrides)


@pytest.mark.slow
def test_what_fails_after_unlearning_loses_nothing(compose_config, tmp_path, monkeypatch, capsys):
    config = compose_config(*DEMO, f"cache_dir={tmp_path}/cache")
    whole = run(config, tmp_path / "whole")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("unlearning.run.stages.report.compared", fail)
        with pytest.raises(OSError, match="disk full"):
            run(config, tmp_path / "broken")
        patch.undo()
    weights = (tmp_path / "broken/model/model.safetensors").read_bytes()
    monkeypatch.setattr("unlearning.run.stages.unlearn.unlearn", fail)  # it must not be done again
    run(OmegaConf.load(tmp_path / "broken/config.yaml"), tmp_path / "broken", resume=True)
    assert (tmp_path / "broken/model/model.safetensors").read_bytes() == weights
    assert whole is not None
    found, expected = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("broken", "whole")
    )
    assert found["after"] == expected["after"] and found["steps"] == expected["steps"]


@pytest.mark.slow
def test_an_adapter_comes_out_the_same_whether_the_cache_was_warm(compose_config, tmp_path):
    common = [*DEMO, "model.lora={}", f"cache_dir={tmp_path}/cache"]
    for name in ("cold", "warm"):
        run(compose_config(*common), tmp_path / name)
    cold, warm = ((tmp_path / n / "model/model.safetensors").read_bytes() for n in ("cold", "warm"))
    assert cold == warm
    AutoModelForCausalLM.from_pretrained(tmp_path / "warm/model")


def test_real_copyright_takes_another_method_and_other_steps_whole(compose_config):
    """None of its weights, nor the cap or margin of its forget term, is left over them."""
    papers = compose_config("experiment=copyright")
    found = compose_config(
        "experiment=real_copyright", "book=book.txt", "prose=prose", "method=paper",
        "unlearn=copyright",
    )  # fmt: skip
    for node in ("objective", "unlearn", "method", "reference"):
        assert found[node] == papers[node]


def test_what_was_taught_goes_back_to_the_model_before_the_teaching(compose_config):
    book = ("experiment=real_copyright", "book=book.txt", "prose=prose")
    found = compose_config(*book)
    assert found.objective.forget.loss == "unlearning.losses.match_reference"
    assert found.objective.distil.role == "forget"
    assert (found.reference.of, found.callbacks.guard) == ("base", None)
    limit = compose_config(*book, "method=to_reference_book")
    assert limit.objective.forget.options == {"margin": 0.0}
    assert "distil" not in limit.objective and limit.reference.of == "base"
    taught = "method=match_reference_real unlearn=real_taught data/answers=model"
    said = f"finetune=real_harmful {taught}"
    yaml = (Path(__file__).parents[2] / "conf/experiment/real_harmful.yaml").read_text("utf-8")
    assert said in yaml
    harmful = compose_config("experiment=real_harmful", *said.split())
    assert (harmful.data.answers.retain, harmful.data.answers.mismatch) == ("model", "model")
    assert (harmful.reference.of, harmful.unlearn.batch_size) == ("base", 2)
    assert build_guard(harmful).budget.retain_kl is None  # it starts where the teaching left it


def test_real_harmful_takes_the_settings_of_the_paper_whole(compose_config):
    """As `conf/experiment/real_harmful.yaml` says: nothing of its own choices is left over them."""
    papers = compose_config("experiment=harmful")
    said = "method=paper unlearn=paper model.lora=null data/answers=data data.mismatch_per_prompt=5"
    yaml = (Path(__file__).parents[2] / "conf/experiment/real_harmful.yaml").read_text("utf-8")
    assert said in yaml
    found = compose_config("experiment=real_harmful", *said.split())
    for node in ("objective", "unlearn", "method"):
        assert found[node] == papers[node]
    assert found.model.lora is papers.model.lora is None
    assert (found.data.answers.retain, found.data.answers.mismatch) == ("data", "data")
    assert found.data.mismatch_per_prompt == papers.data.mismatch_per_prompt


def test_real_harmful_goes_without_a_judge_and_with_another(compose_config):
    """None of the experiment's own choices is left over another choice of `classifier`."""
    folder = ("experiment=real_harmful", "sources=folder", "sources.folder=/data")
    assert compose_config(*folder, "classifier=none").classifier.train is None
    for judge in ("minilm_jigsaw", "bert_jigsaw"):
        data = compose_config(*folder, f"classifier={judge}").classifier.train.data
        assert data.source == "/data/jigsaw/toxic_binary.csv" and data.labels == ["toxic"]
    config = compose_config("experiment=harmful")
    OmegaConf.resolve(config)  # a run goes by what is saved for its resume
    hub = instantiate(config.classifier.train.data)
    assert hub.source.startswith("thesofakillers/") and hub.labels == JIGSAW_LABELS
