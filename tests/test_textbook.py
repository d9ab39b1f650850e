"""The readable step and the fast one are the same step."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning import Callback

from unlearning.models.load import disable_dropout
from unlearning.module import UnlearningModule
from unlearning.objective import PAPER_TERMS
from unlearning.textbook import PAPER_WEIGHTS, textbook_losses, textbook_step
from unlearning.types import TokenizedExample

RATE = 0.05
WEIGHTS = {"forget": 0.3, "mismatch": 0.7, "retain": 1.9}


class Recorder(Callback):
    """Keeps what each step logs, and its gradients."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        named = pl_module.policy.named_parameters()
        self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def examples_at(data, number: int) -> dict[str, list[TokenizedExample]]:
    found: dict[str, list[TokenizedExample]] = {}
    for tree in data.trees_at(number):
        for answer in tree.answers:
            found.setdefault(answer.role, []).append(TokenizedExample(tree.prompt_ids, answer.ids))
    return found


# Models whose norms compute in fp64; Llama's are in fp32 whatever its weights.
@pytest.mark.parametrize("architecture", ["opt", "gpt2"])
@pytest.mark.parametrize("k", [2, 0])
def test_the_fast_step_is_the_textbook_step(make_model, make_data, quiet_trainer, architecture, k):
    """Three steps in fp64: terms, every gradient and every weight to 1e-12."""
    policy = make_model(architecture).double()
    disable_dropout(policy)
    model, frozen = copy.deepcopy(policy), copy.deepcopy(policy)
    data, recorder = make_data(mismatch_per_prompt=k), Recorder()
    weights = WEIGHTS if k else {**WEIGHTS, "mismatch": 0.0}
    terms = {name: {**term, "weight": weights[name]} for name, term in PAPER_TERMS.items()}
    module = UnlearningModule(
        policy, terms, reference="copy", schedule="constant", optimizer="torch.optim.SGD",
        learning_rate=RATE,
    )  # fmt: skip
    quiet_trainer(max_steps=3, callbacks=[recorder]).fit(module, data)
    assert data.batch_at(0).rows.attention_mask.ndim == 4  # tree rows
    for number in range(3):
        examples = examples_at(data, number)
        assert len(examples.get("mismatch", [])) == k * len(examples["forget"])
        losses = textbook_losses(model, frozen, examples)
        total = sum(weights[role] * loss for role, loss in losses.items())
        named = dict(model.named_parameters())
        gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        for (name, _), gradient in zip(named.items(), gradients, strict=True):
            found = recorder.gradients[number].get(name)
            assert (found is None) == (gradient is None), name
            if gradient is not None:
                torch.testing.assert_close(found, gradient, atol=1e-12, rtol=1e-12)
        before = textbook_step(model, frozen, examples, weights, RATE)
        assert before.keys() == losses.keys()
        for role, loss in before.items():
            assert recorder.logged[number][f"train/{role}"] == pytest.approx(loss.item(), abs=1e-12)
    assert recorder.logged[-1]["train/retain"] > 1e-3  # the policy has left the reference
    for name, value in model.named_parameters():
        torch.testing.assert_close(policy.get_parameter(name), value, atol=1e-12, rtol=1e-12)


def test_the_weights_are_those_of_the_method():
    assert {name: term["weight"] for name, term in PAPER_TERMS.items()} == PAPER_WEIGHTS
