from __future__ import annotations

import json

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from unlearning.classifier import HarmScorer, train_classifier
from unlearning.errors import ConfigError

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def test_folder_holds_a_model_that_anybody_can_load(toy, make_bert, bert_tokenizer, tmp_path):
    data = toy(tokenizer=bert_tokenizer, max_length=64, batch_size=16)
    output = tmp_path / "made" / "classifier"
    module = {"model": make_bert(1), "lr": 3e-3, "threshold": 0.4}
    scores = train_classifier(module, data, output, {"max_epochs": 6, **QUIET})
    assert scores["any"]["accuracy"] >= 0.95
    assert scores["comments"] == {"train": 160, "validation": 20, "test": 20}
    assert scores["threshold"] == 0.4
    assert json.loads((output / "scores.json").read_text(encoding="utf-8")) == scores
    assert [path.name for path in output.parent.iterdir()] == ["classifier"]

    model = AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.id2label == {0: "toxic"}
    assert AutoTokenizer.from_pretrained(output).get_vocab() == bert_tokenizer.get_vocab()

    comments = data.comments("test")
    says = HarmScorer(output, 0.4, max_length=64).is_harmful([c.text for c in comments])
    right = sum(say == c.harmful for say, c in zip(says, comments, strict=True))
    assert right / len(comments) == pytest.approx(scores["any"]["accuracy"])


def test_existing_output_is_never_overwritten(toy, make_bert, bert_tokenizer, tmp_path):
    data = toy(tokenizer=bert_tokenizer, max_length=64)
    with pytest.raises(ConfigError, match="never overwritten"):
        train_classifier({"model": make_bert(1)}, data, tmp_path, QUIET)


def test_failed_save_leaves_nothing(toy, make_bert, bert_tokenizer, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("unlearning.classifier.train.write_json", fail)
    data = toy(tokenizer=bert_tokenizer, max_length=64)
    with pytest.raises(OSError, match="disk full"):
        train_classifier({"model": make_bert(1)}, data, tmp_path / "out", {"max_steps": 1, **QUIET})
    assert list(tmp_path.iterdir()) == []


def test_model_name_brings_its_tokenizer(toy, make_bert, bert_tokenizer, tmp_path):
    make_bert(1).save_pretrained(tmp_path / "base")
    bert_tokenizer.save_pretrained(tmp_path / "base")
    data = toy(max_length=64)
    module = {"model": str(tmp_path / "base")}
    train_classifier(module, data, tmp_path / "out", {"max_steps": 1, **QUIET})
    assert data.tokenizer.get_vocab() == bert_tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"datamodule\.tokenizer"),
        ({"labels": ("insult",)}, "differ from the data's"),
    ],
)
def test_what_does_not_fit_together_is_an_error(toy, make_bert, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train_classifier({"model": make_bert(1), **settings}, toy(), tmp_path / "out", QUIET)


def test_text_longer_than_the_model_is_refused_before_training(
    toy, make_bert, bert_tokenizer, tmp_path
):
    data = toy(tokenizer=bert_tokenizer, max_length=128)
    with pytest.raises(ConfigError, match="128 is beyond"):
        train_classifier({"model": make_bert(1)}, data, tmp_path / "out", QUIET)
