"""Harm during training: rates by hand, a training left alone, and two ranks."""

from __future__ import annotations

import csv

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from two_processes import run_ranks

from unlearning.callbacks.harm import HarmEvaluation
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.generation.generate import generate
from unlearning.metrics.degeneracy import is_broken

from .conftest import flat


class FirstWords:
    """Takes a completion for harmful where it begins with one of the words; remembers texts."""

    threshold = 0.5

    def __init__(self, *words):
        self.words, self.texts = words, []

    def harm_probability(self, texts):
        self.texts.extend(texts)
        first = [(text.split() or [""])[0] for text in texts]
        return [0.9 if word in self.words else 0.5 for word in first]


class Draws(FirstWords):
    """One that also disturbs the random numbers."""

    def harm_probability(self, texts):
        torch.rand(17)
        return super().harm_probability(texts)


@pytest.fixture
def prompts(forget_examples):
    return [PromptTemplate().prompt(example.prompt) for example in forget_examples]


@pytest.fixture
def said(make_model, tokenizer, prompts):
    """What the untrained model says."""
    return [c.text for c in generate(make_model().eval(), tokenizer, prompts, 8)]


def test_the_rates_are_those_of_the_completions(fit, tokenizer, prompts, said, tmp_path):
    """Two of the completions are harmful by construction; a probability of 0.5 is not."""
    word = said[0].split()[0]
    harmful = sum(text.split()[:1] == [word] for text in said)
    broken = sum(map(is_broken, said))
    assert 0 < harmful < len(said)
    scorer, logger = FirstWords(word), CSVLogger(tmp_path, name="", version="")
    callback = HarmEvaluation(prompts, tokenizer, scorer, every_n_steps=3, max_new_tokens=8)
    trainer, _ = fit(callback, max_steps=7, logger=logger, log_every_n_steps=1)
    assert scorer.texts[: len(said)] == said  # no prompt, and in order
    assert len(scorer.texts) == 3 * len(said)  # before the first step, after 3 and 6
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["harm/rate"]]
    assert [row["step"] for row in found] == ["0", "3", "6"]
    assert float(found[0]["harm/rate"]) == pytest.approx(harmful / len(said))
    assert float(found[0]["harm/broken_rate"]) == pytest.approx(broken / len(said))
    last = trainer.callback_metrics
    assert last["harm/rate"] == pytest.approx(float(found[2]["harm/rate"]))
    assert last["harm/broken_rate"] == pytest.approx(float(found[2]["harm/broken_rate"]))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_training_does_not_notice(fit, tokenizer, prompts, accumulate):
    """With dropout, so that a random number too many or a module left in eval mode would show."""
    settings = {"module": {"keep_dropout": True}, "accumulate_grad_batches": accumulate}
    _, free = fit(**settings)
    callback = Checked(prompts, tokenizer, Draws("a"), every_n_steps=2, max_new_tokens=8)
    _, watched = fit(callback, **settings)
    assert torch.equal(flat(watched), flat(free)) and callback.untouched
    _, other = fit(**{**settings, "module": {}})
    assert not torch.equal(flat(other), flat(free))  # dropout does matter


class Checked(HarmEvaluation):
    """Looks whether random numbers go on as they would have: a step's own are drawn anew anyway."""

    untouched = True

    def on_step(self, trainer, pl_module, step):
        before = torch.get_rng_state()
        super().on_step(trainer, pl_module, step)
        self.untouched = self.untouched and torch.equal(before, torch.get_rng_state())


def test_early_stopping_can_watch_the_rate(fit, tokenizer, prompts):
    callback = HarmEvaluation(prompts, tokenizer, FirstWords(), every_n_steps=2, max_new_tokens=4)
    early = EarlyStopping("harm/rate", stopping_threshold=0.01, check_on_train_epoch_end=True)
    trainer, _ = fit(callback, early, max_steps=30)
    assert trainer.global_step == 3  # an epoch


def test_an_empty_answer_is_broken_and_not_harmful(fit, tokenizer, prompts, make_model):
    class Silent(HarmEvaluation):
        def evaluate(self, trainer, pl_module):
            head = pl_module.policy.get_output_embeddings().weight
            kept = head.detach().clone()
            with torch.no_grad():  # all logits alike: the first token, a special one, is said
                head.zero_()
                rates = super().evaluate(trainer, pl_module)
                head.copy_(kept)
            return rates

    scorer = FirstWords("nothing")
    trainer, _ = fit(Silent(prompts, tokenizer, scorer, 1, max_new_tokens=4), max_steps=1)
    assert set(scorer.texts) == {""}
    assert trainer.callback_metrics["harm/rate"] == 0
    assert trainer.callback_metrics["harm/broken_rate"] == 1


def test_a_classifier_that_says_nan_is_an_error(fit, tokenizer, prompts):
    class Broken(FirstWords):
        def harm_probability(self, texts):
            return [float("nan")] * len(texts)

    with pytest.raises(ConfigError, match=r"not in 0\.\.1"):
        fit(HarmEvaluation(prompts, tokenizer, Broken(), max_new_tokens=2), max_steps=1)


def test_no_prompts_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="at least one prompt"):
        HarmEvaluation([], tokenizer, FirstWords())


@pytest.mark.ddp
def test_two_ranks_agree_with_one(fit, tokenizer, prompts, said):
    """Five prompts make uneven shards, one prompt leaves the second rank without any."""
    found = run_ranks("callbacks.two_ranks", said[0].split()[0], *prompts)
    assert found[0]["logged"] == found[1]["logged"]
    for count in (1, len(prompts)):
        rates = found[0]["logged"][str(count)]
        judged = said[:count]
        harmful = sum(text.split()[:1] == [said[0].split()[0]] for text in judged)
        assert rates["harm/rate"] == pytest.approx(harmful / count)
        assert rates["harm/broken_rate"] == pytest.approx(sum(map(is_broken, judged)) / count)
    assert [rank["judged"] for rank in found] == [
        {"1": said[:1], str(len(prompts)): said[0::2]},
        {"1": [], str(len(prompts)): said[1::2]},
    ]
    # The guard: rank 1 alone has weights that are not finite, and both go back.
    assert found[0]["guard"] == found[1]["guard"]
    assert found[0]["guard"].items() >= {"limit": "finite", "step": 3, "restored": 1}.items()
    # Ctrl-C to rank 1 alone in step 2: both stop there.
    assert [rank["stopped"] for rank in found] == [2, 2]
    # Rank 0 alone writes: the samples in the order of the prompts, and the checkpoint.
    assert [rank["samples"] for rank in found] == [said, []]
    assert [rank["files"] for rank in found] == [["said.jsonl", "step=2.ckpt"], []]
