"""IdkNLL: the NLL of refusals and of retain answers, each a mean of its own."""

from __future__ import annotations

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_nlls
from pairs import RETAIN, moved_policy, pairs, terms_of, values_of

from unlearning.module import UnlearningModule


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, layout):
    policy, reference = moved_policy(make_model)
    found = values_of(policy, reference, terms_of("idk_nll"), layout)
    forget = mean_of(token_nlls(policy, pair).mean() for pair in pairs("alternate"))
    retain = mean_of(token_nlls(policy, pair).mean() for pair in RETAIN)
    assert found.terms["forget"].item() == pytest.approx(forget.item(), rel=1e-12)
    assert found.terms["retain"].item() == pytest.approx(retain.item(), rel=1e-12)
    expected = gradients(forget + retain, policy)
    assert relative_error(gradients(found.total, policy), expected) < 1e-10


def test_long_retain_answers_take_no_weight_from_the_refusals(make_model):
    """The released code takes one mean over the tokens of both, so that the longer ones weigh
    more."""
    policy, reference = moved_policy(make_model)
    found = values_of(policy, reference, terms_of("idk_nll")).total
    refusals, kept = ([token_nlls(policy, p) for p in pairs(r)] for r in ("alternate", "retain"))
    joint = torch.cat([*refusals, *kept]).mean()
    apart = mean_of(n.mean() for n in refusals) + mean_of(n.mean() for n in kept)
    assert found.item() == pytest.approx(apart.item(), rel=1e-12)
    theirs = gradients(2 * joint, policy)  # the mean of both sets, where lengths are alike
    assert relative_error(gradients(found, policy), theirs) > 0.05


def test_training_makes_refusals_likely(make_model, make_data, quiet_trainer):
    data = make_data(alternate=["nobody looks", "not in the sun"], mismatch_per_prompt=0)
    settings = {"learning_rate": 1e-2, "schedule": "constant"}
    module = UnlearningModule(make_model(), terms_of("idk_nll"), **settings)
    data.setup()
    before = module.loss(data.batch_at(0)).tokens["alternate"].nll.mean().item()
    quiet_trainer(max_steps=60).fit(module, data)
    assert module.reference is None  # none is needed
    assert module.loss(data.batch_at(0)).tokens["alternate"].nll.mean().item() < 0.3 * before
