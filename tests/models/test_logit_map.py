"""What models do to their logits after the output head, found by trying."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from naive import answer_log_probs
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, OPTForCausalLM

from unlearning.data.layout import padded_batch
from unlearning.errors import ConfigError
from unlearning.generation.likelihood import answer_scores
from unlearning.head.logits import logits_of
from unlearning.models.decoder import check_head, decode, evaluating, frozen_copy, output_head
from unlearning.models.logit_map import LogitMap, find_logit_map
from unlearning.types import TokenizedExample

PAIRS = [((5, 9, 3), (7, 8)), ((4,), (11, 12, 13, 14))]
SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tiny(model_type: str, **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **settings})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # as far from uniform as a cap bends
        model.get_output_embeddings().weight.mul_(40)
    return model


KNOWN = {
    "cohere": ({"logit_scale": 0.0625}, LogitMap(0.0625, 0.0625)),
    "granite": ({"logits_scaling": 8.0}, LogitMap(0.125, 0.125)),
    "gemma2": ({"final_logit_softcapping": 5.0}, LogitMap(softcap=5.0)),
    "gemma3_text": ({"final_logit_softcapping": None}, LogitMap()),
    "llama": ({}, LogitMap()),
    "minicpm3": (
        {"dim_model_base": 8, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 4,
         "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4},
        LogitMap(0.25),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model_type", KNOWN)
def test_the_map_is_that_of_the_configuration_and_answers_have_the_models_own_losses(model_type):
    settings, expected = KNOWN[model_type]
    model = tiny(model_type, **settings)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        found = find_logit_map(model, ids)
    assert found.scale == pytest.approx(expected.scale, rel=1e-6)
    assert found.of_bias == pytest.approx(expected.of_bias, rel=1e-6)
    assert found.softcap == expected.softcap or found.softcap == pytest.approx(expected.softcap)
    naive = [answer_log_probs(model, pair).detach() for pair in PAIRS]
    batch = padded_batch(
        [("retain", enumerate(TokenizedExample(*pair) for pair in PAIRS))], pad_token_id=0
    )
    with evaluating(model), torch.no_grad():
        hidden = decode(model, batch.rows).flatten(0, 1)[batch.answers["retain"].loss_index]
        ours = logits_of(hidden, output_head(model), torch.float32).log_softmax(-1)
    torch.testing.assert_close(ours, torch.cat(naive), atol=2e-5, rtol=1e-4)
    scores = answer_scores(model, [TokenizedExample(*pair) for pair in PAIRS], 0, 2)
    for score, log_probs, (_, answer) in zip(scores, naive, PAIRS, strict=True):
        nll = -log_probs.gather(1, torch.tensor(answer)[:, None]).sum()
        assert score.nll == pytest.approx(nll.item(), rel=1e-4)


class Changed(OPTForCausalLM):
    """Does something to its logits; `change` is set on the class by a test."""

    @staticmethod
    def change(logits):
        return logits

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = self.change(output.logits)
        return output


def changed(model, change):
    other = copy.deepcopy(model)
    other.__class__ = type("Changed", (Changed,), {"change": staticmethod(change)})
    return other


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda z: z * -0.5, LogitMap(-0.5, -0.5)),
        (lambda z: 3e5 * torch.tanh(z / 3e5), LogitMap(softcap=3e5)),  # bends nothing here
        (lambda z: 7 * torch.tanh(2 * z / 7), LogitMap(2.0, 2.0, 7.0)),
    ],
)
def test_scale_and_cap_are_read_off_exactly(model, change, expected):
    with torch.no_grad():
        found = find_logit_map(changed(model.eval(), change), torch.arange(8)[None])
    found, expected = (m._replace(softcap=m.softcap or math.inf) for m in (found, expected))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z + 1e-2,
        lambda z: z.clamp(max=3.0),
        lambda z: torch.where(torch.arange(z.shape[-1]) == 5, z - 1, z),
        lambda z: z - z.mean(-1, keepdim=True),
    ],
)
def test_what_is_neither_is_refused_wherever_the_head_is_asked_for(model, change):
    with pytest.raises(ConfigError, match="Changed does something to its logits after the output"):
        output_head(changed(model, change))


def test_a_layer_between_decoder_and_head_is_refused(model):
    class Bent(OPTForCausalLM):
        def forward(self, input_ids, use_cache=None, **kwargs):
            output = super().forward(input_ids, use_cache=use_cache, **kwargs)
            states = self.model.decoder(input_ids, use_cache=False).last_hidden_state
            output.logits = self.lm_head(states**2)
            return output

    other = copy.deepcopy(model)
    other.__class__ = Bent
    with pytest.raises(ConfigError, match="logits of Bent are not those of its output head"):
        check_head(other)


def test_a_model_without_a_linear_head_is_refused(model):
    model.lm_head = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ConfigError, match="has a Sequential as output head"):
        output_head(model)


def test_a_copy_has_the_map_of_its_model():
    model = tiny("gemma2", final_logit_softcapping=5.0)
    check_head(model)
    assert output_head(frozen_copy(model)).softcap == output_head(model).softcap == 5.0
