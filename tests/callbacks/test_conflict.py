"""The cosine of the two sides' gradients: its value, its price, and that training is as without."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from lightning import Callback
from naive import forget_loss, gradients, mismatch_loss, retain_loss

from unlearning.callbacks import GradientConflict
from unlearning.callbacks.conflict import METRIC, cosine
from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule

from .conftest import flat

TERMS = {
    "forget": {"loss": "unlearning.losses.gradient_ascent", "role": "forget", "weight": 0.3},
    "mismatch": {"loss": "unlearning.losses.random_mismatch", "role": "mismatch", "weight": 0.5},
    "retain": {"loss": "unlearning.losses.nll", "role": "retain", "weight": 2.0},
    "hold": {"loss": "unlearning.losses.kl_to_reference", "role": "retain", "weight": 1.0},
}


class Naive(Callback):
    """Computes the cosine of each step by itself, one unpadded sequence at a time."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_start(self, trainer, module) -> None:
        self.reference = copy.deepcopy(module.policy)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        forget, retain = (
            [
                (example.prompt_ids, example.response_ids)
                for example in map(trainer.datamodule.sequences[role].__getitem__, answers.examples)
            ]
            for role, answers in batch.answers.items()
            if role != "mismatch"
        )
        with torch.enable_grad():
            keep = 2.0 * mismatch_loss(module.policy, retain)  # the mean NLL
            keep = keep + retain_loss(module.policy, self.reference, retain)
            sides = (
                gradients(0.3 * forget_loss(module.policy, forget), module.policy),
                gradients(keep, module.policy),
            )
        first, second = (torch.cat([g.flatten() for g in side.values()]) for side in sides)
        self.found.append(torch.cosine_similarity(first.double(), second.double(), dim=0).item())


def test_cosine_by_hand():
    first = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[2.0]])}
    second = {"a": torch.tensor([-3.0, 4.0]), "b": torch.tensor([[0.0]])}
    assert cosine(first, second).item() == pytest.approx(-3 / (math.sqrt(5) * 5))
    assert cosine(first, first).item() == pytest.approx(1.0)
    assert math.isnan(cosine(first, {name: 0 * g for name, g in first.items()}).item())


def test_it_is_the_cosine_of_the_two_sides(fit, caplog):
    conflict, own = GradientConflict(every_n_steps=3), Naive()
    with caplog.at_level(logging.INFO, "unlearning.callbacks.conflict"):
        trainer, _ = fit(conflict, own, max_steps=7, module={"terms": TERMS})
    assert list(conflict.cosines) == [0, 3, 6]
    assert list(conflict.cosines.values()) == pytest.approx(
        [own.found[n] for n in (0, 3, 6)], abs=1e-5
    )
    assert all(-1 < value < 1 for value in own.found)
    assert trainer.callback_metrics[METRIC].item() == pytest.approx(own.found[6], abs=1e-5)
    opposed = sum(own.found[n] < 0 for n in (0, 3, 6))
    assert f"over 3 steps, opposed in {opposed}." in caplog.text


def test_training_is_bit_by_bit_as_without(fit):
    _, without = fit(max_steps=4, module={"terms": TERMS})
    _, measured = fit(GradientConflict(every_n_steps=1), max_steps=4, module={"terms": TERMS})
    assert torch.equal(flat(without), flat(measured))


def test_with_accumulation_it_is_measured_once_a_step(fit, monkeypatch):
    calls, measure = [], UnlearningModule.term_gradients
    monkeypatch.setattr(
        UnlearningModule, "term_gradients", lambda *args: calls.append(1) or measure(*args)
    )
    conflict = GradientConflict(every_n_steps=1)
    fit(conflict, max_steps=3, accumulate_grad_batches=2, module={"terms": TERMS})
    assert list(conflict.cosines) == [0, 1, 2] and len(calls) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every_n_steps": 0}, "every_n_steps is 0"),
        ({"forget": ["forgot"]}, r"forget=\['forgot'\], and the objective has the terms"),
        ({"retain": []}, r"retain=\[\]"),
    ],
)
def test_bad_settings_are_told_before_the_first_step(settings, words, fit):
    with pytest.raises(ConfigError, match=words):
        fit(GradientConflict(**settings), max_steps=1, module={"terms": TERMS})
