"""A model that was loaded in fp16 or bf16 learns as one in fp32 does."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from peft import PeftModel

from unlearning.models.adapter import add_lora, merge_adapter
from unlearning.models.policy import prepare_policy
from unlearning.module import UnlearningModule

HALF = [torch.float16, torch.bfloat16]
IDS = torch.tensor([[5, 9, 3, 7, 11]])
SETTINGS = {"learning_rate": 2e-6, "schedule": "constant"}
STEPS = 3


def changed(before, after) -> int:
    """How many entries of the weights three steps have changed."""
    pairs = zip(before.named_parameters(), after.named_parameters(), strict=True)
    return sum(int((old != new.to(old.dtype)).sum()) for (_, old), (_, new) in pairs)


def train(model, make_data, quiet_trainer, **settings):
    torch.manual_seed(0)
    module = UnlearningModule(model, **SETTINGS)
    quiet_trainer(max_steps=STEPS, **settings).fit(module, make_data())
    return module.policy


@pytest.mark.parametrize("dtype", HALF)
def test_as_many_entries_change_as_in_fp32(make_model, make_data, quiet_trainer, dtype, caplog):
    rounded = make_model().to(dtype)
    full = copy.deepcopy(rounded).float()  # the same values
    wanted = changed(full, train(copy.deepcopy(full), make_data, quiet_trainer))
    assert wanted > 0.7 * sum(p.numel() for p in full.parameters())  # unused positions have none
    assert "The model is in" not in caplog.text
    given = copy.deepcopy(rounded)
    with caplog.at_level(logging.WARNING, "unlearning"):
        policy = train(given, make_data, quiet_trainer)
    assert policy is given and {p.dtype for p in policy.parameters()} == {torch.float32}
    assert changed(full, policy) == wanted
    assert changed(rounded, policy) < 0.2 * wanted  # what half precision would have kept
    name = str(dtype).removeprefix("torch.")
    assert f"The model is in {name}" in caplog.text and "bf16-true" in caplog.text


def test_computing_in_bf16_changes_as_many_entries_up_to_a_twentieth(
    make_model, make_data, quiet_trainer
):
    rounded = make_model().bfloat16()
    full = copy.deepcopy(rounded).float()
    wanted = changed(full, train(copy.deepcopy(full), make_data, quiet_trainer))
    found = changed(full, train(rounded, make_data, quiet_trainer, precision="bf16-true"))
    assert abs(found - wanted) < 0.05 * wanted


@pytest.mark.parametrize("dtype", HALF)
def test_what_an_adapter_is_on_may_be_in_bf16_and_not_in_fp16(make_model, dtype):
    policy = prepare_policy(make_model().to(dtype), {"r": 2})
    assert isinstance(policy, PeftModel)
    assert {p.dtype for p in policy.parameters() if p.requires_grad} == {torch.float32}
    base = {p.dtype for p in policy.parameters() if not p.requires_grad}
    assert base == ({torch.bfloat16} if dtype == torch.bfloat16 else {torch.float32})


@pytest.mark.parametrize("dtype", HALF)
def test_an_adapter_is_merged_into_fp32(make_model, dtype):
    policy = add_lora(make_model().to(dtype), r=2)
    full = add_lora(make_model().to(dtype).float(), r=2)
    for name, parameter in policy.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=1e-3)  # small beside what half precision resolves
            full.get_parameter(name).data.copy_(parameter)
    expected = merge_adapter(full).state_dict()
    merged = merge_adapter(policy)
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged.state_dict(), expected, rtol=0, atol=0)
