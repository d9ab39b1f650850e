"""A reference that is not the policy before its first step: the model from before a fine-tuning."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from conftest import tiny_opt
from lightning import Callback
from naive import retain_loss

from unlearning import UnlearningModule
from unlearning.errors import ConfigError
from unlearning.models.adapter import add_lora, merge_adapter
from unlearning.models.load import disable_dropout
from unlearning.reference import Cached, Copy, build_reference


def built(mode, policy, data, **settings):
    reference = build_reference(mode, policy, **settings)
    reference.prepare(data.sequences, data.pad_token_id)
    return reference


def train_a_little(policy, data) -> None:
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.05)
    for sequence in data.sequences["retain"]:
        ids = torch.tensor([[*sequence.prompt_ids, *sequence.response_ids]])
        policy(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def first_kl(base, policy, data) -> float:
    """KL(base || policy) on the first batch, by its definition."""
    data.setup()
    sequences = [data.sequences["retain"][n] for n in data.batch_at(0).answers["retain"].examples]
    pairs = [(s.prompt_ids, s.response_ids) for s in sequences]
    with torch.no_grad():
        return float(retain_loss(policy, base, pairs))


class First(Callback):
    """The losses of the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == 1:
            self.logged = {n: float(v) for n, v in trainer.callback_metrics.items()}
            self.batch = batch


@pytest.fixture
def data(make_data):
    data = make_data()
    data.setup()
    return data


@pytest.fixture
def finetuned(model, data):
    """A base model, and what LoRA fine-tuning made of it, merged."""
    disable_dropout(model)
    base = tiny_opt()
    disable_dropout(base)
    policy = add_lora(model, r=2, dropout=0.0)
    train_a_little(policy, data)
    return base, merge_adapter(policy)


@pytest.mark.parametrize("lora", [None, {"r": 2}])
@pytest.mark.parametrize("mode", ["auto", "cached", "copy"])
def test_the_kl_starts_above_zero_towards_the_base_and_at_zero_towards_the_finetuned(
    finetuned, make_data, quiet_trainer, lora, mode
):
    base, policy = finetuned
    expected = first_kl(base, policy, make_data())
    first, own = First(), First()
    module = UnlearningModule(policy, lora=lora, reference=mode, reference_model=base)
    quiet_trainer(max_steps=1, callbacks=[first]).fit(module, make_data())
    assert first.logged["train/retain"] == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3

    policy = module.policy if lora is None else merge_adapter(module.policy)
    module = UnlearningModule(policy, lora=lora, reference="copy")
    quiet_trainer(max_steps=1, callbacks=[own]).fit(module, make_data())
    assert own.logged["train/retain"] == 0


def test_cached_and_copy_agree_on_another_model_and_let_it_go(finetuned, data):
    base, policy = finetuned
    cached, copied = (built(mode, policy, data, model=base) for mode in ("cached", "copy"))
    assert isinstance(cached, Cached) and isinstance(copied, Copy)
    train_a_little(policy, data)
    for number in range(3):
        batch = data.batch_at(number)
        ours, theirs = (r.hidden(batch, {"retain"})["retain"] for r in (cached, copied))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(cached.head()[0], base.get_output_embeddings().weight)
    assert cached._model is None


def test_a_module_lets_the_other_model_go_once_its_states_are_cached(
    finetuned, make_data, quiet_trainer
):
    def built():  # Lightning looks at the caller's variables, and Python then keeps them with it
        other = tiny_opt()
        disable_dropout(other)
        module = UnlearningModule(finetuned[1], reference="cached", reference_model=other)
        return module, weakref.ref(other)

    module, alive = built()
    assert alive() is not None
    quiet_trainer(max_steps=1).fit(module, make_data())
    gc.collect()
    assert isinstance(module.reference, Cached) and alive() is None


def test_another_model_is_in_no_checkpoint_and_not_trained(
    finetuned, make_data, quiet_trainer, tmp_path
):
    base, policy = finetuned
    was = {name: p.detach().clone() for name, p in base.named_parameters()}
    module = UnlearningModule(policy, reference="copy", reference_model=base, learning_rate=0.01)
    trainer = quiet_trainer(max_steps=2)
    trainer.fit(module, make_data())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    state = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert set(state["state_dict"]) == {f"policy.{name}" for name in policy.state_dict()}
    assert state["hyper_parameters"]["reference_model"] is None  # an object has no name
    assert all(torch.equal(p, was[name]) for name, p in base.named_parameters())


def test_a_named_model_is_loaded(finetuned, make_data, quiet_trainer, tmp_path):
    base, policy = finetuned
    base.save_pretrained(tmp_path / "base")
    first = First()
    module = UnlearningModule(policy, reference_model=str(tmp_path / "base"))
    expected = first_kl(base, policy, make_data())
    quiet_trainer(max_steps=1, callbacks=[first]).fit(module, make_data())
    assert first.logged["train/retain"] == pytest.approx(expected, rel=1e-4)
    assert module.hparams["reference_model"] == str(tmp_path / "base")


def test_the_adapter_switched_off_is_not_another_model(finetuned):
    base, policy = finetuned
    with pytest.raises(ConfigError, match="another model was given as the reference"):
        build_reference("adapter_off", add_lora(policy, r=2), model=base)


@pytest.mark.parametrize("mode", ["cached", "copy"])
def test_a_reference_that_is_the_policy_is_refused(model, mode):
    with pytest.raises(ConfigError, match=r"shares .* weights with the policy"):
        build_reference(mode, model, model=model)
    with pytest.raises(ConfigError, match=r"shares .* weights with the policy"):
        build_reference(mode, add_lora(model, r=2), model=model)  # PEFT rewires in place


@pytest.mark.parametrize("mode", ["cached", "copy"])
def test_a_reference_of_another_vocabulary_is_refused(model, mode):
    with pytest.raises(ConfigError, match="96 tokens and the reference 90"):
        build_reference(mode, model, model=tiny_opt(vocab_size=90))
