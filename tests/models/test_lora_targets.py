"""An adapter without named layers goes on the right ones; one that fails leaves the model alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.test_adapter import IDS, KINDS, logits, train_a_little
from unlearning.errors import ConfigError
from unlearning.models.adapter import add_adapter, is_fresh, merge_adapter
from unlearning.models.adapter_io import load_adapter, save_adapter
from unlearning.models.fingerprint import base_fingerprint, weights_fingerprint
from unlearning.models.load import load_model, save_model

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 16}


def made(kind, **settings):
    """A tiny model of an architecture."""
    shape = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 1,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **{**shape, **settings})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def mixtral():
    return made("mixtral", num_local_experts=4)


def adapted(policy):
    return {name.split(".lora_")[0] for name, _ in policy.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("architecture", "settings", "layers"),
    [
        ("phi3", {}, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("olmo2", {}, ATTENTION | MLP),
        ("starcoder2", {}, ATTENTION | {"c_fc", "c_proj"}),
        ("nemotron", {}, ATTENTION | {"up_proj", "down_proj"}),
        ("qwen2_moe", SHARED, ATTENTION),  # neither router nor shared_expert_gate
        ("olmoe", EXPERTS, ATTENTION),
        ("granitemoe", {"num_local_experts": 4}, ATTENTION),
        ("mamba", {}, {"in_proj"}),  # a kernel reads the others past their layers
    ],
)
def test_where_peft_has_no_choice_the_blocks_linear_layers_are_taken(
    architecture, settings, layers, kind
):
    model = made(architecture, **settings)
    before = logits(model)
    policy = add_adapter(model, kind, r=2)
    found = adapted(policy)
    assert {path.rsplit(".", 1)[-1] for path in found} == layers
    assert all(".layers." in path for path in found)  # not the head
    per_layer = len(layers)
    assert len(found) == 2 * per_layer
    assert is_fresh(policy) and torch.equal(logits(policy), before)


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [("opt", {"q_proj", "v_proj"}), ("llama", {"q_proj", "v_proj"}), ("gpt2", {"c_attn"})],
)
def test_pefts_choice_is_kept(make_model, architecture, layers):
    found = add_adapter(make_model(architecture)).peft_config["default"].target_modules
    assert found == layers


def test_mixtral_has_pefts_choice_though_its_experts_are_one_tensor():
    found = adapted(add_adapter(mixtral(), r=2))
    assert {path.rsplit(".", 1)[-1] for path in found} == {"q_proj", "v_proj"}


# --- routed experts in one tensor ----------------------------------------------------------------


def test_experts_take_no_dropout_and_the_message_says_what_to_do():
    message = r"routed experts in one tensor.*dropout=0, or .*=\[k_proj, o_proj, q_proj, v_proj\]"
    with pytest.raises(ConfigError, match=message):
        add_adapter(mixtral(), r=2, target_modules="all-linear")


def test_an_adapter_of_experts_is_saved_loaded_and_merged(tmp_path):
    base = save_model(mixtral(), None, tmp_path / "base")
    policy = add_adapter(load_model(base), r=2, target_modules="all-linear", dropout=0.0)
    assert any("experts" in path for path in adapted(policy))
    assert base_fingerprint(policy) == weights_fingerprint(load_model(base))
    train_a_little(policy)
    expected = logits(policy)
    loaded = load_adapter(load_model(base), save_adapter(policy, tmp_path / "adapter"))
    torch.testing.assert_close(logits(loaded), expected)
    torch.testing.assert_close(logits(merge_adapter(loaded)), expected, atol=1e-4, rtol=1e-4)


# --- a wrap that fails ---------------------------------------------------------------------------


def described(model):
    """All that a training would see: modules, weights, which are trained, hooks."""
    return (
        [(path, type(module)) for path, module in model.named_modules()],
        [(name, p.requires_grad, p.dtype) for name, p in model.named_parameters()],
        [len(module._forward_hooks) for module in model.modules()],
        sorted(vars(model)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        ("opt", ["q_proj", "self_attn_layer_norm"]),  # a norm takes no adapter, a layer before does
        ("opt", ["query"]),
        ("mixtral", "all-linear"),
    ],
)
def test_a_failed_wrap_leaves_the_model_as_it_was(make_model, architecture, wrong, kind):
    if architecture == "mixtral" and kind == "adalora":
        pytest.skip("reaches no experts")
    make = mixtral if architecture == "mixtral" else make_model
    model = make()
    next(model.parameters()).requires_grad_(False)
    before, weights = described(model), weights_fingerprint(model)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ConfigError):
        add_adapter(model, kind, r=2, target_modules=wrong)
    logits(model)
    handle.remove()  # still of this model
    logits(model)
    assert calls == [1]
    assert described(model) == before and weights_fingerprint(model) == weights

    torch.manual_seed(1)
    policy = add_adapter(model, kind, r=2)
    other = make()
    torch.manual_seed(1)
    fresh = add_adapter(other, kind, r=2)
    trained = [
        {n for n, p in each.named_parameters() if p.requires_grad} for each in (policy, fresh)
    ]
    assert trained[0] == trained[1] and all("lora_" in name for name in trained[0])
    torch.testing.assert_close(policy.state_dict(), fresh.state_dict(), rtol=0, atol=0)
    policy(input_ids=IDS, labels=IDS).loss.backward()


def test_a_failed_load_leaves_the_model_as_it_was(make_model, tmp_path):
    from safetensors.torch import load_file, save_file

    base = save_model(make_model(), None, tmp_path / "base")
    folder = save_adapter(add_adapter(load_model(base), r=2), tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "lora_B" in name)
    for changed, message in (
        ({n: w for n, w in weights.items() if n != name}, rf"lacks 1 of .*{name}"),
        ({**weights, "base_model.model.extra": torch.zeros(2)}, r"holds 1 weights .*extra"),
    ):
        save_file(changed, file)
        model = load_model(base)
        before, digest = described(model), weights_fingerprint(model)
        with pytest.raises(ConfigError, match=message):
            load_adapter(model, folder)
        assert described(model) == before and weights_fingerprint(model) == digest
    save_file(weights, file)
    assert load_adapter(model, folder)
