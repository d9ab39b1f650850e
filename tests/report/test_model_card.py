from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unlearning.report import model_card
from unlearning.report.figures import DASH, MINUS
from unlearning.report.model_card import inline


def split(card: str) -> tuple[dict, str]:
    start, front, body = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front), body


def test_front_matter(metrics, config):
    front, _ = split(model_card(metrics, config))
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["unlearning"],
        "base_model": "facebook/opt-1.3b",
    }


@pytest.mark.parametrize(
    "name", [None, "/models/opt", "./opt", "a/b/c", "opt", "x/y\n---\nlicense: mit", "~/opt", 3]
)
def test_only_a_hub_id_is_a_base_model(name, metrics, config):
    config["model"]["name_or_path"] = name
    front, _ = split(model_card(metrics, config))
    assert set(front) == {"library_name", "pipeline_tag", "tags"}


def test_a_folder_that_looks_like_a_hub_id_is_none(metrics, config, tmp_path, monkeypatch):
    (tmp_path / "facebook" / "opt-1.3b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in split(model_card(metrics, config))[0]


def test_what_how_and_how_well(metrics, config):
    card = model_card(metrics, config)
    for line in (
        "# Mildly harmful advice",
        "- Forget set: PKU (PKU-Alignment/PKU-SafeRLHF)",
        "- Retain set: Synthetic (everyday)",
        r"| forget | 0.5 | bounded\_ascent (cap 10.0) |",
        r"| retain | 1.0 | kl\_to\_reference |",
        "- Adapter: LoRA, rank 16",
        "- Reference for the retain term: cached",
        "- Optimizer: adamw, learning rate 2e-06, batch size 2",
        "- Steps: 1,000",
        r"| harmful\_heldout | Effectiveness E (higher is better; bootstrap) | ? | 92.3 % (84.6 to "
        "100.0 %) "
        "| ? |",
        "| related | Right before and still right (higher is better; bootstrap) | ? | 91.0 % "
        "(84.0 to 97.0 %) "
        "| -9.0 pts (-16.0 to -3.0 pts) |",
        "The harm classifier on its held-out split: accuracy 0.981, f1 0.977, threshold 0.500.",
    ):
        assert (
            line in card.replace("\xa0", " ").replace(DASH, "?").replace(MINUS, "-").splitlines()
        ), line
    assert "Forget effective (pass)." in card
    assert "arXiv 2405.15152" in card
    assert "## Limits" in card


def test_failures_are_said(metrics, config):
    metrics["after"]["retain_heldout/bleu_to_original"]["value"] = 12.0
    metrics["stop_reason"] = "retain KL | above 2"
    card = model_card(metrics, config)
    assert "- Retain damaged (**fail**)." in card
    assert r"- Stopped early: retain KL \| above 2" in card
    metrics |= {"steps": 20, "kept_steps": 0}
    told = model_card(metrics, config)
    assert "- Reverted: The collapse guard put back the weights from before the first of 20" in told


def test_nothing_known():
    front, body = split(model_card({}, {}))
    assert front["tags"] == ["unlearning"]
    assert body.count("(not measured)") == 4
    assert "None" not in body


def test_card_of_a_book(book, book_config):
    card = model_card(book, book_config).replace("\xa0", " ").replace(MINUS, "-")
    for line in (
        "- Forget set: Story",
        "- Passages of the book: passages: 212; skipped too short: 3; held out dropped for shared "
        "text: 1; chapters train: 8; chapters val: 1; chapters test: 2",
        "- The book may be under copyright. None of its text is part of this card.",
        "- Fine-tuned on the book first: method: LoRA, rank 16; steps: 540; epochs: 60; "
        "final nll: 0.163; time: 1 min 36 s",
        "- Reference for the retain term: the fine-tuned model (AdapterOff)",
        "| Score | Original | Fine-tuned | Unlearned | Change from original |",
        r"| **Similarity to the book: book\_train** (passages that were trained on) | | | | |",
        "| BLEU to the true text (bootstrap) | 1.4 (1.0 to 1.8) | 78.3 (74.1 to 82.5) | "
        "1.9 (1.4 to 2.4) | +0.5 (+0.0 to +1.0) |",
        r"| of normal text, retain\_heldout (bootstrap) | 24.86 (23.66 to 26.06) | "
        "31.05 (29.45 to 32.65) | 25.72 (24.42 to 27.02) | +3.5 % (+1.0 to +6.0 %) |",
    ):
        assert line in card.splitlines(), line
    assert "- Book forgotten (pass)." in card
    assert "harm" not in card.lower()
    assert "classifier" not in card


def test_card_names_the_other_reference(book, book_config):
    book["reference_of"] = "base"
    assert "the model before fine-tuning (AdapterOff)" in model_card(book, book_config)


ATTACK = "x | y\n\n---\n# `h1` <script>alert(1)</script> [a](http://b) *c* ![d](e) $f$ &lt;"


def test_text_from_outside_stays_text(metrics, config):
    config |= {"description": ATTACK, "objective": {ATTACK: {"weight": ATTACK, "loss": ATTACK}}}
    config["data"]["forget"]["source"] = ATTACK
    metrics["prompt_sets"] = {ATTACK: "harmful"}
    metrics["effectiveness"] = {ATTACK: 1.0}
    _, body = split(model_card(metrics, config))
    assert "<script" not in body
    assert "\n---\n" not in body
    assert "\n# `h1`" not in body
    assert not re.search(r"(?<!\\)[\[$]", body)
    rows = [line for line in body.splitlines() if line.startswith("|") and "h1" in line]
    assert rows
    for row in rows:  # no cell is added by a pipe in a name
        assert len(re.findall(r"(?<!\\)\|", row)) in (4, 6)


@given(st.text())
def test_inline_is_one_line_without_markup(text):
    shown = inline(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"[<>]", shown)
    assert not re.search(r"(?<!\\)(?:\\\\)*(?<!\\)[`*_\[\]|#~$!]", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0.5", "0.5"), ("1. x", r"1\. x"), ("- x", r"\- x"), ("a_b", r"a\_b"), ("a  b\nc", "a b c")],
)
def test_inline(text, shown):
    assert inline(text) == shown
