"""bf16 computation with fp32 weights: `Trainer(precision="bf16-true")`."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import LlamaConfig, LlamaForCausalLM

from unlearning.callbacks.guard import CollapseGuard
from unlearning.errors import ConfigError
from unlearning.models.decoder import unwrap
from unlearning.models.fingerprint import base_fingerprint, weights_fingerprint
from unlearning.module import UnlearningModule
from unlearning.training.master_weights import MasterWeights, halve_, join_

STEPS = 6
LORA = {"r": 2, "dropout": 0.0}
SMALL = {"learning_rate": 2e-6, "schedule": "constant"}


class Seen(Callback):
    """What the losses and gradients of every step were, and in what they were computed."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.kl.append(float(trainer.callback_metrics["train/retain"]))
        self.dtypes |= {p.dtype for p in pl_module.policy.parameters()}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.trained = [p for group in optimizer.param_groups for p in group["params"]]


def fit(trainer, module, data, **settings) -> Seen:
    seen = Seen()
    trainer = trainer(max_steps=STEPS, precision="bf16-true", callbacks=[seen], **settings)
    trainer.fit(module, data)
    return seen


def test_small_updates_are_kept_and_the_policy_comes_back_in_fp32(
    make_model, make_data, quiet_trainer
):
    before = make_model()
    module = UnlearningModule(copy.deepcopy(before), **SMALL)
    seen = fit(quiet_trainer, module, make_data())
    assert seen.dtypes == {torch.bfloat16}
    assert {p.dtype for p in seen.trained} == {torch.float32}
    moved = total = survivors = 0
    for (name, old), new in zip(before.named_parameters(), module.policy.parameters(), strict=True):
        assert new.dtype == torch.float32, name
        moved += int((old != new).sum())
        survivors += int((old.bfloat16() != new.bfloat16()).sum())
        total += old.numel()
    # AdamW moves all that has a gradient (unused positions, a sixth of this model, have none) by
    # about the learning rate; rounded to bf16, little of it would be left.
    assert moved > 0.8 * total and survivors < 0.2 * total
    assert module.masters is None


def test_it_is_adamw_on_fp32_copies(make_model, make_data, quiet_trainer):
    """The same steps by hand: bf16 model, fp32 copies, torch's own AdamW."""
    data = make_data()
    module = UnlearningModule(make_model(), learning_rate=1e-3, schedule="constant")
    by_hand = UnlearningModule(make_model(), learning_rate=1e-3, schedule="constant")
    fit(quiet_trainer, module, data)
    masters = [p.detach().clone().requires_grad_() for p in by_hand.policy.parameters()]
    by_hand.trainer = quiet_trainer(precision="bf16-true", max_steps=STEPS)
    by_hand.trainer.datamodule = data  # type: ignore[attr-defined]
    by_hand.setup("fit")
    optimizer = torch.optim.AdamW(masters, lr=1e-3, fused=True)
    for number in range(STEPS):
        total = by_hand.loss(data.batch_at(number)).total
        total.backward()
        for master, low in zip(masters, by_hand.policy.parameters(), strict=True):
            master.grad, low.grad = low.grad.float(), None
        optimizer.step()
        for master, low in zip(masters, by_hand.policy.parameters(), strict=True):
            low.data.copy_(master.data)
    for master, found in zip(masters, module.policy.parameters(), strict=True):
        assert torch.equal(master, found)


@pytest.mark.parametrize(
    ("lora", "mode"), [(None, "cached"), (None, "copy"), (LORA, "adapter_off"), (LORA, "cached")]
)
def test_kl_is_near_zero_at_step_0_whatever_the_reference(
    make_model, make_data, quiet_trainer, lora, mode
):
    module = UnlearningModule(make_model(), lora=lora, reference=mode, **SMALL)
    seen = fit(quiet_trainer, module, make_data())
    assert abs(seen.kl[0]) < 2e-3  # bf16 products round rows of another batch another way


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_resumed_it_ends_bit_for_bit_the_same(make_model, make_data, quiet_trainer, tmp_path, lora):
    def module() -> UnlearningModule:
        return UnlearningModule(make_model(), lora=lora, learning_rate=1e-3)

    whole = module()
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    trainer = quiet_trainer(
        max_steps=STEPS, precision="bf16-true", callbacks=[saver], enable_checkpointing=True
    )
    trainer.fit(whole, make_data())
    saved = torch.load(tmp_path / "step=3.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for name, value in saved.items() if "lm_head" not in name} == {
        torch.float32
    }
    resumed = module()
    trainer = quiet_trainer(max_steps=STEPS, precision="bf16-true")
    trainer.fit(resumed, make_data(), ckpt_path=tmp_path / "step=3.ckpt", weights_only=True)
    moved = [(saved[f"policy.{n}"] - p).abs().max() for n, p in whole.policy.named_parameters()
             if p.requires_grad]  # fmt: skip
    assert max(moved) > 5e-4  # three steps, the last of them small
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name


def test_clipping_is_by_the_norm_of_the_fp32_gradients(make_model, make_data, quiet_trainer):
    norms = []

    class Clipped(UnlearningModule):
        def configure_gradient_clipping(self, optimizer, *args, **settings) -> None:
            super().configure_gradient_clipping(optimizer, *args, **settings)
            grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
            norms.append(torch.stack([g.norm() for g in grads if g is not None]).norm().item())

    fit(quiet_trainer, Clipped(make_model(), **SMALL), make_data(), gradient_clip_val=1e-2)
    assert norms == pytest.approx([1e-2] * STEPS, rel=1e-3)


def test_a_tied_weight_stays_one(make_model):
    model = make_model()
    masters = MasterWeights(model, torch.bfloat16)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert "lm_head.weight" not in masters.masters
    masters.to_fp32()
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_the_guard_puts_the_fp32_weights_back(make_model, make_data, quiet_trainer):
    """Else the next rounding would undo it."""
    guard = CollapseGuard(forget_nll=1e-3, action="stop", every_n_steps=2, window=1)
    before = make_model()
    module = UnlearningModule(copy.deepcopy(before), learning_rate=1e-3)
    trainer = quiet_trainer(max_steps=STEPS, precision="bf16-true", callbacks=[guard])
    trainer.fit(module, make_data())
    assert guard.events and guard.events[-1]["restored_step"] == 0
    for old, new in zip(before.parameters(), module.policy.parameters(), strict=True):
        assert torch.equal(old, new)


def test_other_half_precisions_are_refused(make_model, make_data, quiet_trainer):
    trainer = quiet_trainer(max_steps=1, precision="16-true")
    with pytest.raises(ConfigError, match="bf16-true"):
        trainer.fit(UnlearningModule(make_model()), make_data())
    adalora = UnlearningModule(make_model(), lora={"kind": "adalora", "r": 2})
    with pytest.raises(ConfigError, match="AdaLoRA"):
        quiet_trainer(max_steps=1, precision="bf16-true").fit(adalora, make_data())


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=512,
        )
    )


def test_halves_of_a_weight_join_to_the_same_bits():
    halfway = torch.tensor([0x3F808000, 0x3F818000, 0x3F80FFFF, 0x3F807FFF], dtype=torch.int32)
    torch.manual_seed(0)
    some = torch.cat([torch.randn(1000), halfway.view(torch.float32), torch.tensor([0.0, -0.0])])
    values = torch.cat([some, -some, some * 1e-30])
    weight = torch.nn.Parameter(values.clone())
    low = halve_(weight)
    assert weight.dtype == torch.bfloat16 and low.dtype == torch.int16
    ties = values.view(torch.int32) % 2**16 == 2**15
    assert torch.equal(weight[~ties], values[~ties].bfloat16()) and ties.sum() >= 4
    join_(weight, low)
    assert torch.equal(weight.view(torch.int32), values.view(torch.int32))


def test_under_an_adapter_the_base_comes_back_bit_for_bit(make_data, quiet_trainer):
    before = llama()
    module = UnlearningModule(copy.deepcopy(before), lora=LORA, learning_rate=1e-3)
    seen = fit(quiet_trainer, module, make_data())
    assert seen.dtypes == {torch.bfloat16}
    assert base_fingerprint(module.policy) == weights_fingerprint(before)
    found = dict(unwrap(module.policy).named_buffers())
    for name, buffer in before.named_buffers():
        assert torch.equal(buffer, found[name]), name


class Frequencies(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.found = pl_module.policy.model.rotary_emb.inv_freq.clone()


def test_rotary_frequencies_stay_in_fp32(make_data, quiet_trainer):
    """As in a model that transformers loads in bf16."""
    wanted = llama().model.rotary_emb.inv_freq.clone()
    frequencies = Frequencies()
    trainer = quiet_trainer(max_steps=1, precision="bf16-true", callbacks=[frequencies])
    trainer.fit(UnlearningModule(llama()), make_data())
    assert torch.equal(frequencies.found, wanted)
    assert not torch.equal(wanted.bfloat16().float(), wanted)
