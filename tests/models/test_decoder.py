from __future__ import annotations

import copy

import pytest
import torch
from conftest import ARCHITECTURES
from naive import answer_log_probs
from transformers import OPTForCausalLM

from unlearning.data.layout import padded_batch
from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora
from unlearning.models.decoder import (
    check_head,
    decode,
    evaluating,
    frozen_copy,
    output_head,
    unwrap,
)
from unlearning.models.trial import takes_tree_rows
from unlearning.types import TokenizedExample


class NoPositions(OPTForCausalLM):
    """Its decoder takes no position ids, as BLOOM's does not."""

    def get_decoder(self):
        decoder = self.model.decoder

        def forward(input_ids, attention_mask=None, use_cache=None):
            return decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

        return forward


def as_class(model, cls):
    """A copy of a model as another class of the same weights."""
    other = copy.deepcopy(model)
    other.__class__ = cls
    return other


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lora", [False, True])
def test_head_of_decoder_is_the_model(make_model, architecture, lora):
    model = make_model(architecture).eval()
    policy = add_lora(model, r=2, alpha=4) if lora else model
    check_head(policy)
    assert takes_tree_rows(policy)
    pairs = [((5, 9, 3), (7, 8)), ((4,), (11, 12, 13, 14))]
    batch = padded_batch(
        [("retain", enumerate(TokenizedExample(*pair) for pair in pairs))], pad_token_id=1
    )
    weight, bias, softcap = output_head(policy)
    assert softcap is None
    with evaluating(policy), torch.no_grad():
        hidden = decode(policy, batch.rows).flatten(0, 1)[batch.answers["retain"].loss_index]
        ours = torch.nn.functional.linear(hidden, weight, bias).log_softmax(-1)
        theirs = torch.cat([answer_log_probs(policy, pair) for pair in pairs])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_tree_rows_are_tried_not_assumed(model):
    assert takes_tree_rows(model)
    assert not takes_tree_rows(as_class(model, NoPositions))
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")  # adds the mask to the scores, so a bool one is wrong
    assert takes_tree_rows(eager)
    eager.config._attn_implementation = "flash_attention_2"
    assert not takes_tree_rows(eager)


def test_an_adapter_on_the_head_is_refused(make_model):
    policy = add_lora(make_model("llama"), r=2, target_modules=["lm_head"])
    with pytest.raises(ConfigError, match=r"lm_head.*out of the adapter's target modules"):
        output_head(policy)


def test_evaluating_puts_every_modules_mode_back(model):
    model.train()
    model.model.decoder.layers[0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert [module.training for module in model.modules()] == before


def test_a_frozen_copy_shares_nothing(model):
    other = frozen_copy(model)
    assert not other.training and not any(p.requires_grad for p in other.parameters())
    ours = {p.data_ptr() for p in model.parameters()}
    assert not ours & {p.data_ptr() for p in other.parameters()}
    assert all(p.requires_grad for p in model.parameters())


def test_unwrap(model):
    assert unwrap(model) is model
    assert unwrap(add_lora(model, r=2)) is model
