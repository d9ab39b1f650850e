"""The copyright experiment's own stages: original, finetune, and the reference of either."""

from __future__ import annotations

import csv
import json
import math
from statistics import fmean

import pytest
import sacrebleu
import torch
from transformers import AutoModelForCausalLM

from unlearning.errors import ConfigError
from unlearning.metrics.generations import read_generations
from unlearning.run.pipeline import run

from .small import SMALL, checked

DEMO = ("experiment=copyright_demo", "trainer=debug", *SMALL)


def losses(folder) -> list[dict[str, str]]:
    with open(folder / "losses.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(compose_config, tmp_path_factory):
    """Two runs that differ in the model that the KL is to."""
    root = tmp_path_factory.mktemp("copyright")
    for of in ("finetuned", "base"):
        stop = f"callbacks.bleu.stop={'true' if of == 'base' else 'false'}"
        config = compose_config(*DEMO, f"reference.of={of}", stop, f"cache_dir={root}/cache")
        run(config, root / of)
    return root


@pytest.mark.slow
def test_the_reference_is_the_finetuned_model_or_the_one_before(runs):
    assert float(losses(runs / "finetuned")[0]["retain"]) == 0
    assert float(losses(runs / "base")[0]["retain"]) > 0
    for of, mode in (("finetuned", "AdapterOff"), ("base", "Cached")):
        metrics = json.loads((runs / of / "metrics.json").read_text())
        assert (metrics["reference_of"], metrics["reference"]) == (of, mode)
    page = (runs / "base/report.html").read_text()
    assert "the model before fine-tuning" in page
    assert "the model before fine-tuning" in (runs / "base/model/README.md").read_text()


@pytest.mark.slow
def test_three_stages_answer_the_same_prompts(runs):
    found = read_generations(runs / "base/generations.jsonl")
    by_stage = {
        stage: [(g.prompt_set, g.index, g.prompt, g.target) for g in found if g.stage == stage]
        for stage in ("original", "before", "after")
    }
    assert by_stage["original"] == by_stage["before"] == by_stage["after"]
    assert {name for name, *_ in by_stage["after"]} == {
        "book_train", "book_heldout", "retain_heldout",
    }  # fmt: skip
    metrics = json.loads((runs / "base/metrics.json").read_text())
    assert metrics["original"]["retain_heldout/bleu_to_original"]["value"] == pytest.approx(100)
    assert (metrics["finetune"]["steps"], metrics["finetune"]["method"][:10]) == (3, "LoRA, rank")
    told = len({prompt for name, _, prompt, _ in by_stage["after"] if name == "book_train"})
    assert metrics["book"]["passages"]["train"] >= told > 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["original", "before", "after"])
def test_scores_are_those_of_the_answers(runs, stage):
    """Computed once more from what was said, with sacrebleu and by the definitions."""
    metrics = json.loads((runs / "base/metrics.json").read_text())
    said = [
        g for g in read_generations(runs / "base/generations.jsonl")
        if (g.stage, g.prompt_set) == (stage, "book_train")
    ]  # fmt: skip
    tokens = [g.target_tokens for g in said]
    assert len(said) > 1 and min(tokens) > 0
    bleu = sacrebleu.BLEU()
    expected = {
        "bleu_to_target": bleu.corpus_score(
            [g.completion for g in said], [[g.target for g in said]]
        ).score,
        "extraction_strength": fmean(g.target_suffix / g.target_tokens for g in said),
        "exact_memorisation": fmean(g.target_matches / g.target_tokens for g in said),
        "perplexity": math.exp(sum(g.target_nll for g in said) / sum(tokens)),
    }
    for name, value in expected.items():
        found = metrics[stage][f"book_train/{name}"]
        assert found["value"] == pytest.approx(value), name
        assert found["n"] == len(said)
    assert metrics["signatures"]["bleu_to_target"] == str(bleu.get_signature())


@pytest.mark.slow
def test_adapter_and_merged_model_are_both_saved(runs):
    (folder,) = (p.parent for p in (runs / "cache/finetune").glob("*/inputs.json"))
    assert (folder / "adapter/adapter_config.json").is_file()
    AutoModelForCausalLM.from_pretrained(folder / "merged")
    kept = list((runs / "cache/answers").glob("*/inputs.json"))
    assert len(kept) == 3  # of the base and of the fine-tuned model, shared by both runs


@pytest.mark.slow
def test_the_early_stop_goes_by_passages_that_are_not_scored(runs):
    """The base model's answers to them, beside those to all prompt sets of two models."""
    kept = [read_generations(path) for path in (runs / "cache/answers").glob("*/*.jsonl")]
    (watched,) = (rows for rows in kept if {g.prompt_set for g in rows} == {"watched/book_train"})
    scored = {g.prompt for g in read_generations(runs / "base/generations.jsonl")}
    assert len(watched) == 32 and not {g.prompt for g in watched} & scored


# --- bad input, before anything is loaded or trained -------------------------------------------


def refused(config, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(config)


def test_a_book_that_is_in_the_retain_corpus(compose_config, library, tmp_path):
    both = tmp_path / "prose"
    both.mkdir()
    text = (library / "prose/normal.txt").read_text() + "\n" + (library / "book.txt").read_text()
    (both / "normal.txt").write_text(text, encoding="utf-8")
    common = ["experiment=copyright_scratch", f"book={library}/book.txt"]
    common.append("data.retain.section_windows=3")
    checked(compose_config(*common, f"prose={library}/prose"))
    refused(compose_config(*common, f"prose={both}"), "sailed past the")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reference.of=original", "finetuned, base"),
        ("reference.mode=adapter_off", "cached or copy"),
        ("finetune.epochs=0", "finetune.epochs=0"),
        ("+finetune.adapter.rank=3", "rank"),
        ("finetune.load=/nowhere", "/nowhere"),
        pytest.param(
            "finetune.eight_bit=true",
            "GPU|bitsandbytes",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="8 bits can be had here"),
        ),
        ("evaluation.prompt_sets.book_train.kind=book", "copyright"),
    ],
)
def test_settings_are_refused(compose_config, override, message):
    refused(compose_config("experiment=copyright_demo", override), message)
