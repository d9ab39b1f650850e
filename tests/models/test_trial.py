from __future__ import annotations

import pytest
import torch

from models.architectures import tiny_model as tiny_architecture
from unlearning import UnlearningModule
from unlearning.errors import ConfigError
from unlearning.generation.generate import generate
from unlearning.generation.likelihood import answer_scores
from unlearning.models.trial import check_model, check_train_mode, takes_left_pads
from unlearning.types import TokenizedExample


def test_a_model_that_sees_later_tokens_is_refused(make_model):
    model = make_model("llama")
    model.config.is_causal = False  # transformers' own switch
    with pytest.raises(ConfigError, match="a later token changes the hidden states of earlier"):
        UnlearningModule(model)
    with pytest.raises(ConfigError, match="a later token changes the hidden states of earlier"):
        answer_scores(model, [TokenizedExample((5, 9), (7, 8))], pad_token_id=1)


def test_weights_that_change_in_eval_mode_are_refused():
    with pytest.raises(ConfigError, match="RwkvForCausalLM changes its own weights"):
        check_model(tiny_architecture("rwkv"))


def test_a_router_that_draws_is_switched_off_with_dropout():
    model = tiny_architecture("phimoe").train()
    drawing = [m for m in model.modules() if hasattr(m, "router_jitter_noise")]
    for router in drawing:
        router.router_jitter_noise = 1.0  # of the usual 0.01, a few tokens show nothing
    with pytest.raises(ConfigError, match="computes something else in train mode"):
        check_train_mode(model)
    module = UnlearningModule(model, reference="copy")  # switches it off
    check_train_mode(module.policy)
    assert drawing and not any(m.training for m in drawing) and model.training


def test_random_numbers_are_left_as_they_were(make_model):
    model = make_model("opt").train()
    state = torch.get_rng_state()
    with pytest.raises(ConfigError, match="train mode"):
        check_train_mode(model)  # dropout of 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_prompts_share_a_batch_only_where_pads_change_nothing(make_model, tokenizer):
    assert takes_left_pads(make_model("llama"))
    model = tiny_architecture("bart")  # counts positions from the row's start
    assert not takes_left_pads(model)
    prompts = ["a dog has four legs", "meow", "the sky is blue", "the sun"]
    sizes: list[int] = []
    together = generate(model, tokenizer, prompts, 8, batch_size=4, on_answered=sizes.append)
    alone = [generate(model, tokenizer, [prompt], 8)[0] for prompt in prompts]
    assert [each.ids for each in together] == [each.ids for each in alone]
    lengths = {len(tokenizer(prompt)["input_ids"]) for prompt in prompts}
    assert len(sizes) == len(lengths) and sum(sizes) == len(prompts)
