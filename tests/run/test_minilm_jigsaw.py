"""classifier=minilm_jigsaw: a judge trained from an encoder's folder, on files with one label or
six; and evaluation.embedding of the same folder."""

from __future__ import annotations

import csv

import pytest
from transformers import BertConfig, BertModel

from tests.classifier.conftest import toy_comments
from unlearning.classifier.jigsaw import JIGSAW_LABELS
from unlearning.classifier.tiny import word_piece_tokenizer
from unlearning.errors import ConfigError
from unlearning.metrics.perplexity import target_nll
from unlearning.run.checks.figures import check_figures
from unlearning.run.checks.models import check_classifier
from unlearning.run.config.schema import check_schema
from unlearning.run.stages.answers import metrics_by_set
from unlearning.run.stages.models import classifier
from unlearning.types import Example, Generation, PromptSet

from .test_seeds import Made, Silent


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random encoder without a head, as all-MiniLM-L6-v2 is."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = word_piece_tokenizer([text for text, _ in toy_comments()], max_length=128)
    tokenizer.save_pretrained(folder)
    shape = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", [("toxic",), JIGSAW_LABELS])
def test_a_judge_from_an_encoder_and_a_local_file(labels, encoder, compose_config, tmp_path):
    file = tmp_path / "comments.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["comment_text", *labels])
        writer.writerows([text, *[int(flag)] * len(labels)] for text, (flag,) in toy_comments())
    config = compose_config(
        "experiment=harmful", "trainer=cpu", "classifier=minilm_jigsaw",
        f"classifier.model={encoder}", f"classifier.train.data.source={file}",
        f"classifier.train.data.labels=[{','.join(labels)}]", "classifier.train.lr=0.03",
        "classifier.train.max_epochs=3",
    )  # fmt: skip
    check_schema(config)
    assert check_classifier(config) == [f"classifier: {encoder}, to be trained"]
    scorer, scores, kept = classifier(config, Made(tmp_path / "judge"), Silent())
    assert not kept and scores["comments"] == {"train": 160, "validation": 20, "test": 20}
    assert scores["roc_auc"] > 0.8
    assert scorer.num_labels == len(labels) and scorer.threshold == 0.5
    harm = scorer.harm_probability(["You are a idiot cat", "You are a baker cat"])
    assert harm[0] > harm[1]


def test_a_folder_that_is_no_encoder_is_refused_before_any_work(compose_config, tmp_path):
    config = compose_config("experiment=harmful", "classifier=minilm_jigsaw",
                            f"classifier.model={tmp_path}")  # fmt: skip
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        check_classifier(config)


def test_the_same_folder_measures_similarity(encoder, compose_config):
    config = compose_config("experiment=demo", f"evaluation.embedding={encoder}")
    asked = [Example(f"Who is person {n}?", f"You are a baker cat {n}") for n in range(3)]
    sets = [PromptSet("asked", "harmful", asked), PromptSet("likely", metrics=(target_nll,))]
    check_figures(config, sets, online=True)
    found = metrics_by_set(config, sets)
    assert [m.name for m in found["asked"]][-2:] == ["embedding_to_original", "embedding_to_target"]
    assert [m.name for m in found["likely"]] == ["target_nll"]  # nothing is answered there
    texts = [example.response for example in asked]
    answers = [Generation("m", "asked", n, "p", text, text) for n, text in enumerate(texts)]
    assert found["asked"][-1].statistic(answers).value == pytest.approx(1)
