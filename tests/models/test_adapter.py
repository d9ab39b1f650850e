from __future__ import annotations

import pytest
import torch
from torch import nn

from unlearning.errors import ConfigError
from unlearning.models import load as model_file
from unlearning.models.adapter import (
    add_adalora,
    add_adapter,
    add_lora,
    check_adapter_settings,
    is_fresh,
    merge_adapter,
    transfer_adapter,
)
from unlearning.models.adapter_io import load_adapter, save_adapter
from unlearning.models.decoder import check_head, is_eight_bit, output_head
from unlearning.models.load import disable_dropout, full_precision, save_model
from unlearning.models.policy import prepare_policy

IDS = torch.tensor([[5, 9, 3, 7, 11]])
ARCHITECTURES = ["opt", "llama", "gpt2", "gpt_neox"]
KINDS = ["lora", "adalora"]


def train_a_little(policy: nn.Module) -> None:
    """Every factor of every update away from where it began."""
    torch.manual_seed(3)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)


def logits(policy: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return policy.eval()(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_adapter_adds_nothing_and_trains_alone(make_model, architecture, targets, kind):
    model = make_model(architecture)
    before = logits(model)
    policy = add_adapter(model, kind, r=2, target_modules=targets)
    assert is_fresh(policy) and torch.equal(logits(policy), before)
    for name, parameter in policy.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
    output_head(policy)  # raises where the head has an adapter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merged_adapter_is_in_the_weights(make_model, architecture, kind):
    model = make_model(architecture)
    before = logits(model)
    policy = add_adapter(model, kind, r=2, target_modules="all-linear")
    train_a_little(policy)
    assert not is_fresh(policy)
    expected = logits(policy)
    assert (expected - before).abs().max() > 0.1
    merged = merge_adapter(policy)
    assert not any("lora_" in name for name, _ in merged.named_parameters())
    assert all(parameter.requires_grad for parameter in merged.parameters())
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits(merged), expected, atol=1e-4 * scale, rtol=1e-4)
    assert is_fresh(add_adapter(merged, kind, r=2))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_goes_onto_another_copy_of_its_base(make_model, kind):
    policy = add_adapter(make_model(), kind, r=2)
    train_a_little(policy)
    moved = transfer_adapter(policy, make_model())
    torch.testing.assert_close(logits(moved), logits(policy))
    with torch.no_grad():
        next(p for n, p in policy.named_parameters() if "lora_A" in n).zero_()
    assert not torch.equal(logits(moved), logits(policy))  # a copy


def test_the_papers_adapter_is_the_default(model):
    settings = add_adapter(model).peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (16, 32, 0.05)


def test_adalora_begins_with_half_as_many_ranks_again(model):
    settings = add_adalora(model, r=3, total_steps=200).peft_config["default"]
    assert (settings.target_r, settings.init_r, settings.lora_alpha) == (3, 5, 32)
    assert (settings.tinit, settings.tfinal, settings.total_step) == (20, 60, 200)


# --- an 8-bit base -------------------------------------------------------------------------------


@pytest.fixture
def like_eight_bit(make_model, tokenizer, tmp_path):
    """A model with weights as coarse as in 8 bits, and the model it was made from."""
    folder = save_model(make_model(), tokenizer, tmp_path / "full")
    rounded = model_file.load_model(folder)
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(8).round_().div_(8)
    return rounded, model_file.load_model(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_never_merged_into_eight_bits(like_eight_bit, kind):
    rounded, full = like_eight_bit
    policy = add_adapter(rounded, kind, r=2)
    rounded.is_loaded_in_8bit = True  # as transformers says it
    train_a_little(policy)
    assert torch.equal(logits(full_precision(policy)), logits(full))
    expected = logits(transfer_adapter(policy, full))
    assert (logits(policy) - expected).abs().max() > 0.01  # what rounding does
    merged = merge_adapter(policy)
    assert merged.dtype == torch.float32 and not getattr(merged, "is_loaded_in_8bit", False)
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)


def test_eight_bits_are_not_trained_themselves(like_eight_bit):
    rounded, _ = like_eight_bit
    rounded.is_loaded_in_8bit = True
    with pytest.raises(ConfigError, match=r"in 8 bits.*eight_bit=False"):
        prepare_policy(rounded)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_an_eight_bit_base_learns_under_an_adapter(make_model, tokenizer, tmp_path, kind):
    pytest.importorskip("bitsandbytes")
    folder = save_model(make_model(), tokenizer, tmp_path / "full")
    base = model_file.load_model(folder, eight_bit=True)
    assert is_eight_bit(base)
    policy = prepare_policy(base, {"kind": kind, "r": 4}, gradient_checkpointing=True)
    check_head(policy)
    assert all(p.requires_grad == ("lora_" in name) for name, p in policy.named_parameters())
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(30):
        loss = policy(input_ids=IDS.cuda(), labels=IDS.cuda()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2
    saved = save_adapter(policy, tmp_path / "adapter")
    loaded = load_adapter(model_file.load_model(folder), saved)  # its base, in full
    merged = merge_adapter(policy)
    assert merged.dtype == torch.float32 and not is_eight_bit(merged)
    torch.testing.assert_close(logits(merged.cpu()), logits(loaded.cpu()), atol=1e-3, rtol=1e-3)


# --- prepared for training -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_trains_with_its_adapters_dropout_alone(model, kind):
    policy = prepare_policy(model.eval(), {"kind": kind, "r": 2, "dropout": 0.25})
    assert all(module.training for module in policy.modules())
    rates = {n: m.p for n, m in policy.named_modules() if isinstance(m, nn.Dropout)}
    assert {rate for name, rate in rates.items() if "lora_dropout" in name} == {0.25}
    assert {rate for name, rate in rates.items() if "lora_dropout" not in name} <= {0.0}
    train_a_little(policy)
    assert not torch.equal(policy.train()(IDS).logits, policy.train()(IDS).logits)
    disable_dropout(policy)  # once more: the adapter's stays
    assert not torch.equal(policy.train()(IDS).logits, policy.train()(IDS).logits)
    assert torch.equal(logits(policy), logits(policy))


@pytest.mark.parametrize("adapter", [None, {"r": 2, "dropout": 0.5}])
@pytest.mark.parametrize("architecture", ["opt", "gpt2"])
def test_checkpointing_computes_again_and_changes_no_gradient(make_model, architecture, adapter):
    found, forwards = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = make_model(architecture)
        policy = prepare_policy(model, adapter, False, gradient_checkpointing=checkpointing)
        if adapter:
            train_a_little(policy)
        inner = next(m for n, m in policy.named_modules() if n.endswith(("self_attn", "attn")))
        calls: list[int] = []
        inner.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(5)  # of the dropout, which is drawn twice alike
        policy(input_ids=IDS, labels=IDS).loss.backward()
        forwards.append(len(calls))
        found.append({n: p.grad for n, p in policy.named_parameters() if p.requires_grad})
    assert forwards == [1, 2]
    assert all(value is not None and value.abs().max() > 0 for value in found[0].values()) or (
        adapter is None
    )
    torch.testing.assert_close(found[1], found[0])


def test_a_policy_without_trainable_weights_is_refused(model):
    with pytest.raises(ConfigError, match="no trainable weight"):
        prepare_policy(model.requires_grad_(False))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_adapter_is_refused(model, kind):
    with pytest.raises(ConfigError, match="merge it with merge_adapter"):
        add_adapter(add_lora(model, r=2), kind, r=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("architecture", "targets", "message"),
    [
        (
            "opt",
            ["query"],
            r"'query'.*OPTForCausalLM.* fc1, fc2, k_proj, out_proj, q_proj, v",
        ),
        ("opt", ["q_proj", "query"], r"No module is called 'query'.*fc1, fc2, k_proj"),
        ("gpt2", ["q_proj"], r"'q_proj'.*GPT2LMHeadModel.*c_attn, c_fc, c_proj\."),
        ("opt", "no_such_.*", r"no_such_.*fc1, fc2, k_proj"),
    ],
)
def test_unknown_target_modules_name_those_there_are(
    make_model, architecture, targets, message, kind
):
    model = make_model(architecture)
    with pytest.raises(ConfigError, match=message):
        add_adapter(model, kind, r=2, target_modules=targets)
    assert not any("lora_" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 8}, r"LoRA takes no 'rank'; it takes r, alpha, dropout, target_modules\."),
        ({"kind": "dora"}, "Unknown adapter kind 'dora'; choose one of lora, adalora"),
        ({"initial_r": 8}, "LoRA takes no 'initial_r'"),
        ({"kind": "adalora", "rank": 8}, r"AdaLoRA takes no 'rank'.*initial_r, warmup_fraction"),
        ({"r": 0}, "r=0 must be a whole number of at least 1"),
        ({"r": 2.5}, r"r=2\.5 must be a whole number"),
        ({"alpha": 0}, "alpha=0 must be above 0"),
        ({"alpha": "much"}, "alpha='much' must be above 0"),
        ({"dropout": 1.0}, r"dropout=1\.0 must be at least 0 and below 1"),
        ({"kind": "adalora", "r": 4, "initial_r": 4}, "initial_r=4 must be above r=4, or None"),
        ({"kind": "adalora", "final_fraction": 0.9}, r"final_fraction=0\.9 .* below 1 together"),
        ({"kind": "adalora", "interval": 0}, "interval=0 must be"),
    ],
)
def test_settings_are_checked_without_a_model(make_model, settings, message):
    with pytest.raises(ConfigError, match=message):
        check_adapter_settings(settings)
    with pytest.raises(ConfigError, match=message):
        add_adapter(make_model(), **settings)


@pytest.mark.parametrize("settings", [{}, {"r": 1, "dropout": 0.0}, {"kind": "adalora", "r": 1}])
def test_good_settings_pass(settings):
    check_adapter_settings(settings)
