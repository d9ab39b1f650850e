"""Prompts that leave no room for an answer are refused before any work; cut answers are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.small import checked
from unlearning.data import JsonlDataModule, UnlearningDataModule
from unlearning.errors import ConfigError
from unlearning.models.load import load_tokenizer
from unlearning.run.config.evaluate import evaluation_overrides

SETTINGS = (
    "data=jsonl", "trainer=cpu", "classifier=none", "data.template.prompt_format='{prompt}'",
    "data.max_length=40", "finetune=none", "data.mismatch_per_prompt=1",
)  # fmt: skip
FORGET, RETAIN = list("abcdefghij"), list("klmnopqrst")
LONG = " ".join(["How do I trick a person?"] * 12)  # some 72 words


def write(path: Path, prompts: list[str], answer: str = "It is a lie.") -> str:
    rows = (json.dumps({"prompt": p, "response": answer}) for p in prompts)
    path.write_text("\n".join(rows))
    return str(path)


@pytest.fixture
def check(compose_config, opt_folder, tmp_path):
    """`check(forget, retain, ...)` as `validate=true` would."""

    def checked_with(forget, retain, *words, answer="It is."):
        sources = [
            f"data.forget.source={write(tmp_path / 'forget.jsonl', forget, answer)}",
            f"data.retain.source={write(tmp_path / 'retain.jsonl', retain)}",
        ]
        words = (*SETTINGS, *sources, f"model.name_or_path={opt_folder}", *words)
        if "task=evaluate" in words:
            kept = [word for word in words if not word.startswith(("task", "model.name"))]
            words = tuple(evaluation_overrides([str(opt_folder), *kept]))
        return checked(compose_config(*words, f"cache_dir={tmp_path / 'cache'}", "validate=true"))

    return checked_with


def test_what_fits_is_valid_and_says_nothing(check, tmp_path):
    assert not any("cut" in line for line in check(FORGET, RETAIN))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["forget", "retain"])
def test_overlong_prompts_are_counted_and_the_longest_is_shown(check, name):
    sets = {"forget": FORGET, "retain": RETAIN}
    long = [f"one {n} {LONG}" for n in range(20)]  # more than are held out
    sets[name] = [*sets[name], *long, *(f"two {prompt} {LONG}" for prompt in long)]
    message = rf"data\.{name} \(data\.max_length=40\): \d+ of \d+ prompts leave no .* begins 'two"
    with pytest.raises(ConfigError, match=message) as caught:
        check(*sets.values(), answer="a")
    longest = int(str(caught.value).split("longest has ")[1].split()[0])
    assert 130 < longest < 400


def test_cut_answers_are_counted(check):
    lines = check(FORGET, RETAIN, answer=LONG)
    assert "data.forget: 7 of 7 answers are cut to data.max_length=40" in lines


def test_a_prompt_that_is_only_scored(check):
    message = r"evaluation\.prompt_sets\.\w+ \(data\.max_length=40\): 1 of \d+ prompts leave"
    with pytest.raises(ConfigError, match=message):
        check([*FORGET, f"one {LONG}"], RETAIN, "task=evaluate",
              "+evaluation.prompt_sets.all={source: forget, split: all, kind: '', metrics: "
              "[unlearning.metrics.perplexity.target_perplexity]}")  # fmt: skip


def test_a_prompt_of_the_fine_tuning(check):
    message = r"finetune\.sets\.forget \(finetune\.context_length=40\): 1 of 1 prompts leave"
    with pytest.raises(ConfigError, match=message):
        check([*FORGET, f"one {LONG}"], RETAIN, "finetune=lora", "finetune.context_length=40",
              "finetune.sets.forget=all", "data.max_length=128")  # fmt: skip


def test_held_out_answers_that_are_cut_are_counted_apart(opt_folder, tmp_path):
    def data(name: str, answer: str) -> JsonlDataModule:
        prompts = [f"{name} {n}?" for n in range(20)]
        source = write(tmp_path / f"{name}.jsonl", prompts, f"{answer} {name}")
        return JsonlDataModule(source, fractions=(0.5, 0.25, 0.25))

    stream = UnlearningDataModule(
        data("a", LONG), data("b", LONG), load_tokenizer(opt_folder), mismatch_per_prompt=0,
        alternate=[f"{LONG} no"], max_length=40,
    )  # fmt: skip
    stream.setup()
    trained = {"forget": 10, "retain": 10, "alternate": 1}
    assert stream.truncated == trained
    stream.heldout("validation"), stream.heldout("test")
    apart = {
        f"{s} {n}": 5 if n != "alternate" else 1 for s in ("validation", "test") for n in trained
    }
    assert stream.truncated == {**trained, **apart}
