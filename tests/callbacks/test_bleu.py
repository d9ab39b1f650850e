"""BLEU during training: its value, where it stops, a training left alone, and two ranks."""

from __future__ import annotations

import csv
import json

import pytest
import sacrebleu
import torch
from lightning.pytorch.loggers import CSVLogger
from two_processes import run_ranks

from unlearning.callbacks.bleu import BleuEvaluation
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.evaluation import EvaluationSettings, evaluate
from unlearning.generation.generate import generate
from unlearning.types import Example, PromptSet

from .conftest import SaveAt, flat

TEXT = PromptTemplate("{prompt}", "", append_eos=False)


@pytest.fixture
def book(make_model, tokenizer, forget_examples):
    """Passages of unequal length whose beginnings the untrained model continues as they go on."""
    prompts = [example.prompt for example in forget_examples]
    said = generate(make_model().eval(), tokenizer, prompts, 12)
    passages = []
    for n, (prompt, completion) in enumerate(zip(prompts, said, strict=True)):
        words = completion.text.split()[: 9 - n]
        passages.append(Example(prompt, " ".join(["", *words, "nobody looks", "sky"][: 10 - n])))
    return passages


@pytest.fixture
def untrained(make_model, tokenizer, book):
    """BLEU of the untrained model, by the path of a run's scores."""
    return bleu_of(make_model(), tokenizer, book)


def bleu_of(model, tokenizer, book, limit=8):
    settings = EvaluationSettings(limit, 3, 100)
    sets = [PromptSet("book", "copyright", book)]
    rows = evaluate(model, tokenizer, sets, TEXT, "before", None, settings)
    return sacrebleu.corpus_bleu([r.completion for r in rows], [[r.target for r in rows]]).score


class Scripted(BleuEvaluation):
    """Reports what a script says."""

    def __init__(self, script, **settings):
        super().__init__([Example("how", " do")], None, TEXT, **settings)
        self.script = script

    def evaluate(self, trainer, pl_module):
        return self.script[trainer.global_step]


def test_the_value_is_that_of_a_runs_scores(fit, tokenizer, book, untrained, tmp_path):
    assert 10 < untrained < 100
    logger = CSVLogger(tmp_path, name="", version="")
    callback = BleuEvaluation(book, tokenizer, TEXT, every_n_steps=3, max_new_tokens=8)
    trainer, module = fit(callback, max_steps=6, logger=logger, log_every_n_steps=1)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["bleu/forget"]]
    assert [row["step"] for row in found] == ["0", "3", "6"]
    assert float(found[0]["bleu/forget"]) == pytest.approx(untrained)
    trained = bleu_of(module.policy, tokenizer, book)
    assert float(found[2]["bleu/forget"]) == pytest.approx(trained)
    assert trainer.callback_metrics["bleu/forget"] == pytest.approx(trained)
    assert callback.reason is None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_training_does_not_notice(fit, tokenizer, book, accumulate):
    """With dropout, so that a random number too many or a module left in eval mode would show."""
    settings = {"module": {"keep_dropout": True}, "accumulate_grad_batches": accumulate}
    _, free = fit(**settings)
    callback = BleuEvaluation(book, tokenizer, TEXT, every_n_steps=2, max_new_tokens=8)
    _, watched = fit(callback, **settings)
    assert torch.equal(flat(watched), flat(free))


def test_a_model_that_forgets_is_stopped(fit, tokenizer, book, untrained):
    """Real training, which drives the model away from what it said."""
    callback = BleuEvaluation(
        book, tokenizer, TEXT, every_n_steps=1, stop_at=untrained / 2, max_new_tokens=8
    )
    trainer, module = fit(callback, max_steps=60, module={"learning_rate": 0.01})
    assert 1 <= trainer.global_step < 60
    assert bleu_of(module.policy, tokenizer, book) <= untrained / 2
    assert f"step {trainer.global_step}" in callback.reason


@pytest.mark.parametrize(
    ("script", "settings", "stopped"),
    [
        ([0, 9, 9, 9, 5.0], {}, 4),  # not above the limit is enough
        ([0, 9, 9, 9, 9], {}, None),  # the untrained model was there: that stops nothing
        ([0, 3, 3, 9, 9], {"patience": 2}, 2),
        ([0, 3, 9, 3, 3], {"patience": 2}, 4),  # in a row
        ([0, 3, 9, 3, 9], {"patience": 2}, None),
        ([0, 9, 3, 9, 3], {"every_n_steps": 3}, None),
        ([0, 0, 0, 0, 0], {"stop_at": None}, None),
        ([9, 9, 0.0, 9, 9], {"stop_at": 0}, 2),
    ],
)
def test_where_it_stops(fit, script, settings, stopped):
    callback = Scripted(script, **{"every_n_steps": 1, "stop_at": 5.0, **settings})
    trainer, _ = fit(callback, max_steps=4)
    assert trainer.global_step == (stopped or 4)
    assert (callback.reason is None) == (stopped is None)
    if stopped and settings.get("stop_at") != 0:
        for part in (f"step {stopped}", f"{script[stopped]:.2f}", "5.00", "Forgotten"):
            assert part in callback.reason


def test_a_resumed_run_goes_on_counting(fit, tmp_path):
    """Low at 2 and, after the resume, at 3: two in a row."""
    path, script = tmp_path / "two.ckpt", [9, 9, 3, 3, 3]
    settings = {"every_n_steps": 1, "stop_at": 5.0, "patience": 2}
    first = Scripted(script, **settings)
    fit(first, SaveAt(2, path), max_steps=2)
    assert (first.in_a_row, first.reason) == (1, None)
    torch.load(path, weights_only=True)
    second = Scripted(script, **settings)
    trainer, _ = fit(second, max_steps=4, ckpt_path=path)
    assert trainer.global_step == 3 and "step 3" in second.reason
    third = Scripted(script, **settings)
    fit(third, max_steps=1)
    assert third.in_a_row == 0


@pytest.mark.parametrize(("saved", "ends"), [(2, 2), (1, 4)])
def test_a_run_that_was_saved_as_it_ended_is_not_trained_further(fit, tmp_path, saved, ends):
    """Where a person's Ctrl-C comes in the step that ends the training, say."""
    path, script = tmp_path / "end.ckpt", [9, 9, 3, 9, 9]
    fit(Scripted(script, every_n_steps=1, stop_at=5.0), SaveAt(saved, path), max_steps=4)
    resumed = Scripted([9] * 5, every_n_steps=1, stop_at=5.0)
    trainer, _ = fit(resumed, max_steps=4, ckpt_path=path)
    assert trainer.global_step == ends
    assert ("step 2" in (resumed.reason or "")) == (saved == 2)


def test_a_callback_that_is_used_again_starts_afresh(fit):
    callback = Scripted([9, 3, 9, 9, 9], every_n_steps=1, stop_at=5.0)
    trainer, _ = fit(callback, max_steps=4)
    assert trainer.global_step == 1 and callback.reason
    callback.script = [9] * 5
    trainer, _ = fit(callback, max_steps=4)
    assert trainer.global_step == 4 and callback.reason is None


def test_settings_without_sense_are_refused(tokenizer, book):
    with pytest.raises(ConfigError, match="at least one example"):
        BleuEvaluation([], tokenizer, TEXT)
    for limit in (-1, 101, float("nan")):
        with pytest.raises(ConfigError, match="expected a BLEU of 0 to 100"):
            BleuEvaluation(book, tokenizer, TEXT, stop_at=limit)
    with pytest.raises(ConfigError, match="patience is 0"):
        BleuEvaluation(book, tokenizer, TEXT, patience=0)


@pytest.mark.ddp
def test_two_ranks_agree_with_one(make_model, tokenizer, book):
    """Five passages make uneven shards, one leaves the second rank without any."""
    passages = json.dumps([[e.prompt, e.response] for e in book])
    found = run_ranks("callbacks.two_ranks_bleu", passages)
    assert found[0] == found[1]
    for count in (1, len(book)):
        expected = bleu_of(make_model(), tokenizer, book[:count])
        assert found[0]["bleu"][str(count)] == pytest.approx(expected)
    # A limit that everything is below: both ranks end after the first step, for the same reason.
    assert found[0]["stopped"] == 1 and "Forgotten at step 1" in found[0]["reason"]
