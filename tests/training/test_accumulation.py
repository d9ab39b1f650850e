"""Gradient accumulation is the same update as one big batch, through the Trainer."""

from __future__ import annotations

import pytest
import torch
from lightning import Callback
from naive import relative_error

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.module import UnlearningModule
from unlearning.types import Example

LORA = {"r": 2, "dropout": 0.0}
# A key's bias has no gradient but rounding, of which Adam's usual eps of 1e-8 makes whole steps.
OPTIONS = {"torch.optim.SGD": {"momentum": 0.9}, "adamw": {"eps": 1e-3}}


class Steps(Callback):
    """Which batches each optimizer step was made of."""

    def __init__(self) -> None:
        self.steps: dict[int, list[int]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.steps.setdefault(trainer.global_step, []).append(batch.index)


def movement(model, data, trainer, **settings) -> dict[str, torch.Tensor]:
    """How far every trained weight moved."""
    module = UnlearningModule(model, schedule="linear", **settings)
    trained = {name: p for name, p in module.policy.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in trained.items()}
    trainer.fit(module, data)
    return {name: p.detach() - start[name] for name, p in trained.items()}


@pytest.mark.parametrize(("lora", "reference"), [(None, "cached"), (None, "copy"), (LORA, "auto")])
@pytest.mark.parametrize("optimizer", ["torch.optim.SGD", "adamw"])
@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_1x8_is_8x1(make_model, make_data, quiet_trainer, lora, reference, optimizer, layout):
    """Five forget examples: no step of eight is an epoch, and none may be cut short by one."""
    moved = {}
    for batch_size, accumulated in ((8, 1), (1, 8), (2, 4)):
        torch.manual_seed(5)  # of the adapter
        steps = Steps()
        trainer = quiet_trainer(max_steps=4, accumulate_grad_batches=accumulated, callbacks=[steps])
        moved[batch_size] = movement(
            make_model(), make_data(batch_size=batch_size, layout=layout), trainer, lora=lora,
            reference=reference, optimizer=optimizer, optimizer_options=OPTIONS[optimizer],
            learning_rate=2e-3,
        )  # fmt: skip
        assert [len(batches) for batches in steps.steps.values()] == [accumulated] * 4
    for batch_size in (1, 2):
        assert relative_error(moved[batch_size], moved[8]) < 5e-4


def test_an_epoch_is_whole_optimizer_steps(make_model, make_data, quiet_trainer):
    """Lightning steps at an epoch's end; with 5 batches of 8 that step would be 5/8 of one."""
    data = make_data(batch_size=1)
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=8)
    trainer.fit(UnlearningModule(make_model()), data)
    assert trainer.global_step == 2 and data.state_dict()["next_batch"] == 16


def test_a_step_does_not_depend_on_the_lengths_it_is_split_by(
    make_model, tokenizer, quiet_trainer, retain_examples
):
    """Answers of 1 and of 20 tokens: means over tokens come before the mean over sequences."""
    forget = [Example("how ?", "look"), Example("where ?", " ".join(["take it"] * 10))]
    moved = []
    for batch_size, accumulated in ((2, 1), (1, 2)):
        data = UnlearningDataModule(
            forget, retain_examples, tokenizer, batch_size=batch_size, max_length=48
        )
        trainer = quiet_trainer(max_steps=2, accumulate_grad_batches=accumulated)
        moved.append(
            movement(make_model(), data, trainer, optimizer="torch.optim.SGD", learning_rate=0.02)
        )
    assert relative_error(*moved) < 5e-4
