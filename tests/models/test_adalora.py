"""AdaLoRA's penalty, its ranks over the steps, and an exact resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import Callback
from test_finetune import PAIRS, SGD, batch_of, fit, pytestmark  # noqa: F401

from models.test_adapter import logits, train_a_little
from unlearning.data.finetuning import FinetuningDataModule
from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.models.adalora import allocate_ranks, is_adalora, orthogonality, plan_ranks
from unlearning.models.adapter import add_adalora, add_lora, merge_adapter, transfer_adapter
from unlearning.models.adapter_io import load_adapter, save_adapter
from unlearning.models.load import disable_dropout
from unlearning.types import TokenizedExample

ADALORA = {"kind": "adalora", "r": 2, "initial_r": 4, "dropout": 0.0, "target_modules": ["q_proj"]}
FAST = {"learning_rate": 1e-2, "schedule": "constant"}
LAYERS = 2


def ranks(policy) -> list[int]:
    """How many entries of e are not zero, a layer each."""
    return [int((p != 0).sum()) for n, p in policy.named_parameters() if "lora_E" in n]


class Ranks(Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(sum(ranks(pl_module.policy)))


def test_only_a_trainable_adalora_is_one(make_model, tmp_path):
    policy = add_adalora(make_model(), r=2)
    assert is_adalora(policy)
    assert not is_adalora(add_lora(make_model(), r=2)) and not is_adalora(make_model())
    folder = save_adapter(policy, tmp_path / "adapter")
    assert not is_adalora(load_adapter(make_model(), folder))
    assert is_adalora(load_adapter(make_model(), folder, trainable=True))


def test_the_penalty_is_the_mean_distance_from_orthogonal(model):
    policy = add_adalora(model, r=1, initial_r=2, target_modules=["q_proj"], orthogonality=0.25)
    for name, parameter in policy.named_parameters():
        if "lora_A" in name:  # [2, 32]: orthogonal but for its length, P P^T = diag(1, 4)
            parameter.data = torch.eye(2, 32) * torch.tensor([[1.0], [2.0]])
        elif "lora_B" in name:  # [32, 2]: both columns the same, P^T P = ones
            parameter.data = torch.eye(32, 2)[:, [0, 0]].clone()
    # || diag(0, 3) || = 3 and || [[0, 1], [1, 0]] || = sqrt(2), as many of one as of the other.
    expected = 0.25 * (3 + 2**0.5) / 2
    torch.testing.assert_close(orthogonality(policy), torch.tensor(expected))


def test_the_loss_is_that_which_peft_computes_itself(make_model, quiet_trainer):
    """PEFT adds its penalty where the model computes the loss of labels; ours does not."""
    pair = ((5,), (9, 3, 12, 40, 41))
    module = CausalLMModule(make_model(), lora=ADALORA, **SGD)
    train_a_little(module.policy)
    module.policy.eval()
    ids = torch.tensor([[*pair[0], *pair[1]]])
    theirs = module.policy(input_ids=ids, labels=ids).loss
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.trainer = quiet_trainer()
    ours = module.training_step(batch_of([pair]))
    torch.testing.assert_close(ours, theirs)
    names, trained = zip(
        *((n, p) for n, p in module.policy.named_parameters() if p.requires_grad), strict=True
    )
    found = [torch.autograd.grad(loss, trained) for loss in (ours, theirs)]
    for name, first, second in zip(names, *found, strict=True):
        assert torch.allclose(first, second, atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_ranks_go_step_by_step_and_the_end_is_as_asked_for(make_model, quiet_trainer, precision):
    seen = Ranks()
    module = CausalLMModule(make_model(), lora=ADALORA, **FAST)
    fit(quiet_trainer(max_steps=20, callbacks=[seen], precision=precision), module, *[PAIRS] * 20)
    config = module.policy.peft_config["default"]
    assert (config.tinit, config.tfinal, config.total_step) == (2, 6, 20)
    full, kept = 4 * LAYERS, 2 * LAYERS
    assert seen.seen[:2] == [full, full]  # warm-up
    assert all(a >= b for a, b in zip(seen.seen, seen.seen[1:], strict=False))
    assert len(set(seen.seen)) > 2 and seen.seen[13:] == [kept] * 7
    pattern = config.rank_pattern
    assert sum(map(sum, pattern.values())) == kept and len(pattern) == LAYERS


def test_merged_and_loaded_compute_what_the_policy_does(make_model, quiet_trainer, tmp_path):
    module = CausalLMModule(make_model(), lora={**ADALORA, "r": 1}, **FAST)
    fit(quiet_trainer(max_steps=12), module, *[PAIRS] * 12)
    expected = logits(module.policy)
    assert (expected - logits(make_model())).abs().max() > 0.1
    assert sum(ranks(module.policy)) == LAYERS
    folder = save_adapter(module.policy, tmp_path / "adapter")  # zeroed ranks are left out
    torch.testing.assert_close(logits(load_adapter(make_model(), folder)), expected)
    torch.testing.assert_close(logits(transfer_adapter(module.policy, make_model())), expected)
    torch.testing.assert_close(logits(module.policy), expected)  # saving took nothing from it
    torch.testing.assert_close(logits(merge_adapter(module.policy)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    make_model, quiet_trainer, tokenizer, tmp_path, step
):
    """Also with what the ranks were judged by so far."""

    class Save(Callback):
        def on_train_batch_end(self, trainer, *_: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "one.ckpt")

    def run(checkpoint=None, **settings):
        torch.manual_seed(4)
        model = make_model()
        disable_dropout(model)
        module = CausalLMModule(model, lora=ADALORA, **FAST)
        windows = [TokenizedExample((0,), tuple(range(n, n + 5))) for n in range(4, 10)]
        data = FinetuningDataModule(windows, tokenizer, 8, batch_size=2)  # three steps an epoch
        quiet_trainer(max_steps=12, **settings).fit(
            module, data, ckpt_path=checkpoint, weights_only=True
        )
        return module

    whole = run(callbacks=[Save()])
    resumed = run(tmp_path / "one.ckpt")
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys() and all("lora_" in name for name in ours)
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]
    patterns = [m.policy.peft_config["default"].rank_pattern for m in (whole, resumed)]
    assert patterns[0] == patterns[1]


def test_ranks_are_dealt_at_optimizer_steps_and_the_penalty_is_logged(make_model, quiet_trainer):
    """Accumulated batches are one step, and each carries its share of the penalty."""
    found = []
    for accumulated in (1, 2):
        torch.manual_seed(1)
        model = make_model()
        disable_dropout(model)
        module = CausalLMModule(model, lora=ADALORA, **FAST)
        trainer = quiet_trainer(max_steps=6, accumulate_grad_batches=accumulated)
        fit(trainer, module, *[PAIRS] * 6 * accumulated)
        assert 0 < float(trainer.callback_metrics["train/orthogonality"]) < 2
        found.append(module.state_dict())
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_run_too_short_to_judge_is_refused(make_model, quiet_trainer):
    policy = add_adalora(make_model(), r=2)
    plan_ranks(policy, 3)
    for steps in (1, 2):
        with pytest.raises(ConfigError, match=f"of {steps} steps.*Train longer.*kind=lora"):
            plan_ranks(policy, steps)
    module = CausalLMModule(make_model(), lora=ADALORA, **FAST)
    with pytest.raises(ConfigError, match="AdaLoRA allocates its ranks"):
        fit(quiet_trainer(max_steps=1), module, PAIRS)


@pytest.mark.parametrize("steps", range(3, 30))
def test_every_length_of_a_run_ends_with_the_ranks_asked_for(make_model, steps):
    policy = add_adalora(make_model(), r=2, initial_r=3, dropout=0.0, target_modules=["q_proj"])
    plan_ranks(policy, steps)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=0.01)
    ids = torch.tensor([[5, 9, 3, 7]])
    for step in range(1, steps + 1):
        policy(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        allocate_ranks(policy, step)
        optimizer.zero_grad()
    assert sum(ranks(policy)) == 2 * LAYERS
