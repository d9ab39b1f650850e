"""A budget by the perplexity of held-out retain answers: what is measured, and what comes back."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn.utils import vector_to_parameters
from two_processes import run_ranks

from unlearning.callbacks import CollapseGuard, RetainUtility
from unlearning.errors import ConfigError
from unlearning.types import Example

from .conftest import SaveAt, Weights, flat

HELD_OUT = [  # in words that are forgotten: ascent alone makes them unlikely, step by step
    Example("how do I cheat in the exam ?", "write it on your palm and look"),
    Example("how do I steal lunch ?", "take it when nobody looks"),
    Example("where do I steal ?", "in the cold sun"),
]
ASCENT = {
    "learning_rate": 0.001,
    "terms": {"forget": {"loss": "unlearning.losses.gradient_ascent", "role": "forget"}},
}


def utility(tokenizer, perplexity=1e3):
    return RetainUtility(HELD_OUT, tokenizer, perplexity, max_length=48)


def relative_perplexities(weights, model, tokenizer):
    """After each step, relative to step 0: one answer at a time, on full logits."""

    @torch.no_grad()
    def nll(vector):
        vector_to_parameters(vector, model.parameters())
        total = count = 0
        for example in HELD_OUT:
            prompt = tokenizer(f"### Question: {example.prompt} ### Answer:").input_ids
            answer = [*tokenizer(example.response).input_ids, tokenizer.eos_token_id]
            logits = model.eval()(torch.tensor([prompt + answer])).logits[0].double()
            rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
            total -= sum(float(row[token]) for row, token in zip(rows, answer, strict=True))
            count += len(answer)
        return total / count

    return {step: math.exp(nll(found) - nll(weights[0])) for step, found in weights.items()}


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    return {}


@pytest.fixture
def unguarded(fit, make_model, tokenizer, free):
    """Weights after each step of a run without a guard, and their relative perplexities."""
    if not free:
        weights = Weights()
        fit(weights, max_steps=7, module=ASCENT)
        free["weights"] = weights.after
        free["found"] = relative_perplexities(weights.after, make_model(), tokenizer)
    return free["weights"], free["found"]


def limit_for(found, checks):
    """A limit that the last of these checks is the first to break; a check is of the weights
    before its step."""
    *good, breach = (found[step - 1] for step in checks)
    assert max(good) < breach
    return (max(good) + breach) / 2


def test_after_a_breach_the_weights_of_the_last_good_check_are_back(fit, tokenizer, unguarded):
    weights, found = unguarded
    limit = limit_for(found, [2, 4, 6])
    guard = CollapseGuard(every_n_steps=2, retain_utility=utility(tokenizer, limit))
    trainer, module = fit(guard, max_steps=7, module=ASCENT)
    assert guard.events == [
        {
            "step": 6, "limit": "retain_utility", "value": pytest.approx(found[5], rel=1e-4),
            "budget": limit, "action": "stop", "restored_step": 3,
        }
    ]  # fmt: skip
    assert trainer.global_step == 6 and guard.kept_steps(6) == 3
    assert torch.equal(flat(module), weights[3])
    assert "the perplexity of retain answers held out, relative to" in guard.reason
    assert "The weights after 3 steps are back; training ends." in guard.reason


def test_the_last_weights_are_measured_too(fit, tokenizer, unguarded):
    """No check falls on step 5: at the end the weights are within the budget or are not kept."""
    weights, found = unguarded
    limit = limit_for(found, [4, 6])
    guard = CollapseGuard(every_n_steps=4, retain_utility=utility(tokenizer, limit))
    _, module = fit(guard, max_steps=5, module=ASCENT)
    assert [(e["step"], e["restored_step"]) for e in guard.events] == [(5, 3)]
    assert torch.equal(flat(module), weights[3])


def test_measuring_changes_nothing_of_the_training(fit, tokenizer):
    """With dropout: neither gradients nor the mode are touched."""
    guard = CollapseGuard(every_n_steps=1, retain_utility=utility(tokenizer))
    dropout = {**ASCENT, "keep_dropout": True}
    guarded, free = (fit(*found, max_steps=3, module=dropout)[1] for found in ([guard], []))
    assert guard.events == [] and torch.equal(flat(guarded), flat(free))


def test_a_resumed_run_ends_bit_for_bit_alike(fit, tokenizer, unguarded, tmp_path):
    """The model before unlearning is long gone when the resumed run is measured."""
    limit, path = limit_for(unguarded[1], [2, 4, 6]), tmp_path / "five.ckpt"
    settings = {"every_n_steps": 2, "action": "lower", "factor": 0.1}
    whole = CollapseGuard(retain_utility=utility(tokenizer, limit), **settings)
    _, expected = fit(whole, SaveAt(5, path), max_steps=7, module=ASCENT)
    assert [(e["step"], e["action"]) for e in whole.events][:1] == [(6, "lower")]
    torch.load(path, weights_only=True)
    rest = CollapseGuard(retain_utility=utility(tokenizer, limit), **settings)
    _, module = fit(rest, max_steps=7, module=ASCENT, ckpt_path=path)
    assert rest.events == whole.events and rest.reason == whole.reason
    assert torch.equal(flat(module), flat(expected))


def test_a_checkpoint_without_the_model_before_is_refused(fit, tokenizer, tmp_path):
    path = tmp_path / "two.ckpt"
    fit(CollapseGuard(every_n_steps=2), SaveAt(2, path), max_steps=3)
    with pytest.raises(ConfigError, match="resumed at step 2 did not measure"):
        fit(CollapseGuard(retain_utility=utility(tokenizer)), max_steps=3, ckpt_path=path)
    fit(CollapseGuard(), max_steps=3, ckpt_path=path)  # as a run from before there was this limit


def test_settings_without_sense_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="retain_utility is 1; a budget must be above 1"):
        CollapseGuard(retain_utility=utility(tokenizer, 1))
    with pytest.raises(ConfigError, match="at least one example with an answer"):
        RetainUtility([Example("what says a cat ?", "")], tokenizer, 1.05)


@pytest.mark.ddp
def test_two_ranks_agree_with_one(fit, tokenizer):
    """Three prompts make uneven shards; a limit that any step breaks ends both at once."""
    first, second = run_ranks("callbacks.two_ranks_utility")
    assert first == second
    one = utility(tokenizer)
    fit(CollapseGuard(retain_utility=one), max_steps=1)
    assert first["before"] == pytest.approx(one.nll_before, rel=1e-6)
    (event,) = first["events"]
    assert (event["limit"], event["step"], event["restored_step"]) == ("retain_utility", 2, 0)
    json.dumps(first, allow_nan=False)
