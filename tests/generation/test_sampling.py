"""Sampling: the distribution, the nucleus, and draws that belong to a prompt."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_model
from transformers import TopPLogitsWarper

from unlearning.errors import ConfigError
from unlearning.generation.generate import generate
from unlearning.generation.sampling import Sampling, drawn_tokens

PROMPTS = ["what is the capital of France ?", "how ?", "where does the sun rise", "is it ?"]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_evenly_spread_draws_give_each_token_its_probability(temperature, top_p):
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 12, dtype=torch.double)
    warped = TopPLogitsWarper(top_p)(None, logits / temperature) if top_p < 1 else None
    expected = (logits / temperature if warped is None else warped).softmax(-1)[0]
    number = 20_000
    draws = (torch.arange(number) + 0.5) / number
    found = drawn_tokens(logits.expand(number, -1), draws, temperature, top_p)
    shares = torch.bincount(found, minlength=12) / number
    torch.testing.assert_close(shares.double(), expected, atol=2 / number, rtol=0)


def test_no_draw_takes_a_token_without_probability():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    edges = torch.tensor([0.0, 1 - 2**-53], dtype=torch.double)
    assert drawn_tokens(logits.expand(2, -1), edges).tolist() == [1, 3]


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model("llama", len(tokenizer), 3).double()


def test_batches_change_no_draw(model, tokenizer):
    """Also where rows that have ended are left out of a batch."""
    prompts, often = PROMPTS * 3, {"end_tokens": range(10, 20)}
    sampling = Sampling(temperature=1.5, top_p=0.95, seed=4)
    at_once = generate(model, tokenizer, prompts, 12, 12, sampling=sampling, **often)
    for size in (1, 5):
        found = generate(model, tokenizer, prompts, 12, size, sampling=sampling, **often)
        assert [each.ids for each in found] == [each.ids for each in at_once]
    assert sum(each.finished for each in at_once) >= 4
    assert len({each.num_tokens for each in at_once}) > 2
    assert at_once[0].ids != at_once[4].ids  # the same prompt, asked again
    other = generate(model, tokenizer, prompts, 12, sampling=Sampling(1.5, 0.95, 5), **often)
    assert [each.ids for each in other] != [each.ids for each in at_once]


def test_tokens_are_drawn_from_the_models_distribution(model, tokenizer):
    """Replayed: each generated token is the one that the draw takes, given those before it."""
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=2)
    found = generate(model, tokenizer, PROMPTS, 6, sampling=sampling)
    draws = sampling.draws(range(len(PROMPTS)), 6)
    for number, (prompt, completion) in enumerate(zip(PROMPTS, found, strict=True)):
        row = list(tokenizer(prompt)["input_ids"])
        for place, token in enumerate(completion.ids):
            with torch.no_grad():
                logits = model(torch.tensor([row])).logits[:, -1]
            drawn = drawn_tokens(logits, draws[number, place : place + 1], 0.8, 0.9)
            assert int(drawn) == token
            row.append(token)


def test_a_cold_temperature_is_greedy(model, tokenizer):
    greedy = generate(model, tokenizer, PROMPTS, 8)
    cold = generate(model, tokenizer, PROMPTS, 8, sampling=Sampling(temperature=1e-6))
    assert [each.ids for each in cold] == [each.ids for each in greedy]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="must be above 0"):
        Sampling(**settings)
