from __future__ import annotations

import copy

import pytest
import torch
from lightning import Callback
from naive import gradients, token_nlls
from torch.utils.data import DataLoader
from two_processes import run_ranks

from unlearning import finetune
from unlearning.data.finetuning import FinetuningDataModule
from unlearning.data.layout import padded_batch
from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.models.load import disable_dropout
from unlearning.types import Batch, TokenizedExample

PAIRS = [((5, 9, 3, 12), (40, 41, 42)), ((7, 8), (50,)), ((6,), (51, 52, 53, 54, 55, 56))]
SGD = {"optimizer": "torch.optim.SGD", "learning_rate": 0.05, "schedule": "constant"}


def batch_of(pairs) -> Batch:
    return padded_batch(
        [("train", enumerate(TokenizedExample(*pair) for pair in pairs))], pad_token_id=1
    )


def loader_of(*batches) -> list[Batch]:
    return [batch_of(pairs) for pairs in batches]


def fit(trainer, module, *batches, validation=()) -> CausalLMModule:
    def plain(pairs_of_batches):  # a DataLoader over whole batches, as a user has one
        return DataLoader(loader_of(*pairs_of_batches), batch_size=None, num_workers=0)

    trainer.fit(module, plain(batches), plain(validation) if validation else None)
    return module


pytestmark = [
    # Lightning recommends worker processes, which a list of three batches does not need.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


@pytest.mark.parametrize("architecture", ["opt", "gpt2"])
def test_a_step_is_the_mean_nll_of_all_answer_tokens(make_model, quiet_trainer, architecture):
    model = make_model(architecture)
    disable_dropout(model)
    naive = copy.deepcopy(model)
    fit(quiet_trainer(max_steps=1), CausalLMModule(model, **SGD), PAIRS)
    loss = torch.cat([token_nlls(naive, pair) for pair in PAIRS]).mean()
    found = gradients(loss, naive)
    for name, parameter in naive.named_parameters():
        expected = parameter.detach() - 0.05 * found[name]
        torch.testing.assert_close(
            model.get_parameter(name).detach(), expected, atol=1e-5, rtol=1e-5
        )


def test_it_learns_and_validates(model, quiet_trainer):
    trainer = quiet_trainer(max_epochs=1, num_sanity_val_steps=0)
    fit(trainer, CausalLMModule(model, learning_rate=3e-3), *[PAIRS] * 40, validation=[PAIRS])
    assert trainer.callback_metrics["validation/nll"] < 0.5


def test_a_validation_is_the_mean_nll_of_all_answer_tokens(model, quiet_trainer):
    """Of batches with four tokens in two answers and six in one."""
    disable_dropout(model)
    batches = DataLoader(loader_of(PAIRS[:2], PAIRS[2:]), batch_size=None, num_workers=0)
    (logged,) = quiet_trainer().validate(CausalLMModule(model), batches, verbose=False)
    expected = torch.cat([token_nlls(model, pair) for pair in PAIRS]).mean()
    assert logged["validation/nll"] == pytest.approx(expected.item(), rel=1e-5)


def test_dropout_is_left_on(model):
    assert CausalLMModule(model).policy.model.decoder.layers[0].dropout == 0.1


def test_lora_trains_the_adapter_alone(model, quiet_trainer):
    module = CausalLMModule(model, lora={"r": 2}, learning_rate=1e-2)
    frozen = {n: p.clone() for n, p in module.named_parameters() if not p.requires_grad}
    adapter = {n: p.clone() for n, p in module.named_parameters() if p.requires_grad}
    fit(quiet_trainer(max_steps=3), module, *[PAIRS] * 3)
    now = dict(module.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(not torch.equal(now[name], value) for name, value in adapter.items())


@pytest.mark.parametrize("lora", [None, {"r": 2}, {"kind": "adalora", "r": 2}])
def test_a_checkpoint_loads_with_weights_only(make_model, quiet_trainer, tmp_path, lora):
    trainer = quiet_trainer(max_steps=4)
    module = fit(trainer, CausalLMModule(make_model(), lora=lora), *[PAIRS] * 4)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    saved = torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == {
        f"policy.{name}" for name in module.policy.state_dict() if lora is None or "lora_" in name
    }
    loaded = CausalLMModule.load_from_checkpoint(
        tmp_path / "one.ckpt", model=make_model(seed=0 if lora else 1), weights_only=True
    )
    ids = torch.tensor([[5, 9, 3, 7, 11]])
    ours, theirs = (one.policy.eval()(ids).logits for one in (module, loaded))
    assert torch.equal(ours, theirs)
    with pytest.raises(ConfigError, match="does not say which model"):
        CausalLMModule.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)


def test_a_checkpoint_of_another_adapter_is_refused(make_model, quiet_trainer, tmp_path):
    trainer = quiet_trainer(max_steps=1)
    fit(trainer, CausalLMModule(make_model(), lora={"r": 2}), PAIRS)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    for lora in (None, {"r": 2, "target_modules": "all-linear"}):
        with pytest.raises((ConfigError, RuntimeError), match=r"another model or adapter|Missing"):
            CausalLMModule.load_from_checkpoint(
                tmp_path / "one.ckpt", model=make_model(), lora=lora, weights_only=True
            )


@pytest.mark.parametrize("lora", [None, {"r": 2, "dropout": 0.5}])
def test_checkpointing_changes_no_weight(make_model, quiet_trainer, lora):
    """Two steps with dropout on, of the model and of the adapter."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(7)
        module = CausalLMModule(
            make_model(), lora=lora, gradient_checkpointing=checkpointing, **SGD
        )
        fit(quiet_trainer(max_steps=2), module, PAIRS, PAIRS)
        found.append(module.state_dict())
    torch.testing.assert_close(found[1], found[0])


# --- windows of running text ---------------------------------------------------------------------

TEXT = [
    TokenizedExample((0,), tuple(4 + (n * n + 3 * n) % 80 for n in range(s, s + 15)))
    for s in range(6)
]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    "lora", [{"r": 4, "target_modules": "all-linear"}, {"kind": "adalora", "r": 4}]
)
def test_an_adapter_learns_a_text(make_model, tokenizer, quiet_trainer, lora, packing):
    windows = [*TEXT, TokenizedExample((0,), (9, 8, 7))]
    data = FinetuningDataModule(windows, tokenizer, 16, batch_size=4, packing=packing)
    module = CausalLMModule(make_model(), lora=lora, learning_rate=2e-2)

    def loss() -> float:
        pairs = [(w.prompt_ids, w.response_ids) for w in windows]
        with torch.no_grad():
            return float(torch.cat([token_nlls(module.policy.eval(), p) for p in pairs]).mean())

    before = loss()
    module.policy.train()
    trainer = quiet_trainer(max_epochs=30)
    trainer.fit(module, data)
    assert trainer.global_step == 30 * 2
    assert loss() < before / 3


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_resumed_run_ends_bit_for_bit_where_the_whole_one_does(
    make_model, tokenizer, quiet_trainer, tmp_path, accumulated
):
    class Save(Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step == 5 and not (tmp_path / "five.ckpt").exists():
                trainer.save_checkpoint(tmp_path / "five.ckpt")  # between two steps

    def run(checkpoint=None, callbacks=()):
        torch.manual_seed(2)
        model = make_model()
        disable_dropout(model)
        module = CausalLMModule(model, lora={"r": 2, "dropout": 0.0}, learning_rate=1e-2)
        trainer = quiet_trainer(
            max_steps=9, accumulate_grad_batches=accumulated, callbacks=list(callbacks)
        )
        data = FinetuningDataModule(TEXT, tokenizer, 16, batch_size=2)
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        return module.state_dict()

    whole = run(callbacks=[Save()])
    resumed = run(tmp_path / "five.ckpt")
    half = torch.load(tmp_path / "five.ckpt", weights_only=True)["state_dict"]
    assert whole.keys() == resumed.keys() == half.keys()
    assert any((whole[name] - half[name]).abs().max() > 1e-3 for name in whole)
    assert not [name for name in whole if not torch.equal(whole[name], resumed[name])]


def test_data_that_do_not_fit_the_model_are_refused(
    make_model, tokenizer, quiet_trainer, monkeypatch
):
    trainer = quiet_trainer(max_steps=1)
    for model, length, message in (
        (make_model(), 256, "max_length=256 is above the model's context, 128"),
        (make_model(vocab_size=20), 16, "the model embeds 20"),
    ):
        with pytest.raises(ConfigError, match=message):
            trainer.fit(CausalLMModule(model), FinetuningDataModule(TEXT, tokenizer, length))
    monkeypatch.setattr(finetune, "why_no_tree_rows", lambda model: "it does not")
    with pytest.raises(ConfigError, match=r"OPTForCausalLM does not take packed.*packing=False"):
        trainer.fit(CausalLMModule(make_model()), FinetuningDataModule(TEXT, tokenizer, 16))
    data = FinetuningDataModule(TEXT, tokenizer, 16, packing=False)
    trainer.fit(CausalLMModule(make_model()), data)
    assert trainer.global_step == 1


def test_an_adapter_on_the_head_is_refused(make_model):
    with pytest.raises(ConfigError, match="Take the head"):
        CausalLMModule(make_model("llama"), lora={"target_modules": ["lm_head"]})


def test_gradients_are_clipped_under_bf16_with_a_fused_optimizer(model, quiet_trainer):
    trainer = quiet_trainer(max_steps=1, precision="bf16-mixed", gradient_clip_val=1e-3)
    norms = []

    class Watched(CausalLMModule):
        def configure_gradient_clipping(self, *args, **settings) -> None:
            for clip in (None, super().configure_gradient_clipping):
                if clip is not None:
                    clip(*args, **settings)
                gradients = [p.grad for p in self.policy.parameters()]
                norms.append(torch.nn.utils.get_total_norm(gradients))

    trainer.fit(Watched(model, learning_rate=1e-3), DataLoader(loader_of(PAIRS), batch_size=None))
    before, after = norms
    assert before > 1e-3 and after <= 1e-3 * 1.001


@pytest.mark.ddp
def test_two_ranks_make_the_step_of_one_also_with_unlike_numbers_of_tokens():
    """One rank has 18 answer tokens and the other 1: the mean of their means would be another."""
    (one,) = run_ranks("two_ranks_finetune", world=1)
    first, second = run_ranks("two_ranks_finetune", world=2)
    assert first == second
    for name in ("curve", "weights"):
        assert first[name] == pytest.approx(one[name], rel=1e-4, abs=2e-6), name
    assert one["curve"][0] > one["curve"][-1]
    assert first["validation/nll"] == pytest.approx(one["validation/nll"], rel=1e-4)
