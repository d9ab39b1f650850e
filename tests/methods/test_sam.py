"""SAM on the forget term, held to a step written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from naive import gradients
from test_module import SGD, naive_total, pairs, trained_weights
from torch import nn

from unlearning.callbacks import CollapseGuard
from unlearning.errors import ConfigError
from unlearning.methods.sam import SAM
from unlearning.models.decoder import frozen_copy
from unlearning.models.load import disable_dropout
from unlearning.module import UnlearningModule
from unlearning.training.batch_loss import BatchValues
from unlearning.training.step_rule import Gradient, StepRule, TermGradients, with_gradient

RHO = 0.5


def naive_sam_step(naive: nn.Module, reference, data, batch, rate: float) -> None:
    """theta <- theta - rate (e1 grad L_fgt(theta + rho g/|g|) + the other gradients at theta)."""
    from naive import forget_loss

    answers = pairs(data, batch, "forget")
    ascent = gradients(0.5 * forget_loss(naive, answers), naive)
    length = torch.sqrt(sum(g.pow(2).sum() for g in ascent.values()))
    whole = gradients(naive_total(naive, reference, data, batch), naive)
    moved = copy.deepcopy(naive)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += RHO * ascent[name] / length
    perturbed = gradients(0.5 * forget_loss(moved, answers), moved)
    with torch.no_grad():
        for name, parameter in naive.named_parameters():
            parameter -= rate * (whole[name] - ascent[name] + perturbed[name])


@pytest.mark.parametrize(("architecture", "exact"), [("opt", 1e-10), ("llama", 1e-5)])
def test_a_training_is_the_one_by_hand(make_model, make_data, quiet_trainer, architecture, exact):
    """To the last bits, but for Llama, whose norms and positions are made in fp32."""
    policy = make_model(architecture).double()
    naive = copy.deepcopy(policy)
    disable_dropout(naive)
    reference, data = frozen_copy(naive), make_data()
    start = trained_weights(naive)
    module = UnlearningModule(
        policy, schedule="constant", rule=SAM(RHO), reference="copy", **SGD
    ).double()
    quiet_trainer(max_steps=2, precision="64-true").fit(module, data)
    for number in range(2):
        naive_sam_step(naive, reference, data, data.batch_at(number), SGD["learning_rate"])
    ours, theirs = trained_weights(policy), trained_weights(naive)
    largest = max((theirs[n] - start[n]).abs().max().item() for n in theirs)
    worst = max((ours[n] - theirs[n]).abs().max().item() for n in theirs)
    assert worst < exact * largest


def test_it_is_another_step_than_plain_descent(make_model, make_data, quiet_trainer):
    weights = []
    for rule in (None, SAM(RHO)):
        policy = make_model()
        module = UnlearningModule(policy, schedule="constant", rule=rule, **SGD)
        quiet_trainer(max_steps=1).fit(module, make_data())
        weights.append(trained_weights(policy))
    assert max((weights[0][n] - weights[1][n]).abs().max().item() for n in weights[0]) > 1e-4


class Plain(StepRule):
    """The sum of all terms' gradients: what a step without a rule descends."""

    def gradient(self, terms: TermGradients) -> Gradient:
        first, *rest = (terms(name) for name in terms.names)
        return {name: sum((g[name] for g in rest), start=first[name]) for name in first}


def test_gradients_term_by_term_add_up_to_the_step(make_model, make_data, quiet_trainer):
    """And what is logged is the same; with clipping, which looks at the whole gradient."""
    found = []
    for rule in (None, Plain()):
        policy = make_model()
        module = UnlearningModule(policy, schedule="constant", rule=rule, **SGD)
        trainer = quiet_trainer(max_steps=3, gradient_clip_val=0.1, accumulate_grad_batches=2)
        trainer.fit(module, make_data())
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found.append((trained_weights(policy), logged))
    for name, weight in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], weight, rtol=1e-4, atol=1e-6)
    assert found[0][1].keys() == found[1][1].keys()
    for name, value in found[0][1].items():
        assert found[1][1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


# --- perturbed weights are nobody else's ---------------------------------------------------------


def test_the_weights_are_bit_by_bit_back_whatever_happens():
    weight = nn.Parameter(torch.tensor([0.1, 1e8]))
    terms = TermGradients({"w": weight}, lambda names: BatchValues(weight.sum()), ["forget"])
    before = weight.detach().clone()
    with terms.moved({"w": torch.tensor([0.3, 1e-3])}):
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)
    with pytest.raises(KeyboardInterrupt), terms.moved({"w": torch.ones(2)}):
        raise KeyboardInterrupt
    assert torch.equal(weight, before)


def test_the_guard_never_takes_perturbed_weights_for_good_ones(
    make_model, make_data, quiet_trainer
):
    """With rho as large as this, perturbed weights are far away; the guard gives back others."""
    policy = make_model()
    start = trained_weights(policy)
    rule = SAM(50.0)
    guard = CollapseGuard(retain_kl=1e-12, every_n_steps=1, window=1)
    module = UnlearningModule(policy, schedule="constant", rule=rule, **SGD)
    quiet_trainer(max_steps=3, callbacks=[guard]).fit(module, make_data())
    assert guard.reason is not None  # any KL above 0 breaks the budget
    restored = guard.events[-1]["restored_step"]
    assert restored <= 1
    kept = trained_weights(policy)
    distance = sum((kept[n] - start[n]).pow(2).sum().item() for n in start) ** 0.5
    assert distance < 10  # of one step at most, where a perturbation is 50


def test_autocast_sees_the_perturbed_weights(make_model, make_data):
    """Autocast keeps bf16 copies of the weights: those of before the move would go on being used.

    So the gradient at moved weights is held to that of weights that were moved before autocast.
    """
    module = UnlearningModule(make_model(), rule=SAM(1.0), reference="copy")
    data = make_data()
    data.setup()
    batch = data.batch_at(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = module.term_gradients(batch)
        plain = terms("forget")
        by = {name: 0.1 * weight.detach().sign() for name, weight in terms.parameters.items()}
        with terms.moved(by):
            perturbed = terms("forget")
        again = terms("forget")
    with torch.no_grad():
        for name, weight in terms.parameters.items():
            weight += by[name]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = module.term_gradients(batch)("forget")
    for name, gradient in perturbed.items():
        assert torch.equal(gradient, expected[name]), name
        assert torch.equal(again[name], plain[name]), name
    assert any(not torch.equal(perturbed[name], plain[name]) for name in plain)


def test_a_given_gradient_is_what_a_backward_leaves():
    weight = nn.Parameter(torch.ones(2))
    given = {"w": torch.tensor([2.0, -3.0])}
    value = with_gradient(torch.tensor(7.0), {"w": weight}, given)
    assert value.item() == 7.0
    (value / 4).backward()
    assert weight.grad.tolist() == [0.5, -0.75]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"rho": 0.0}, {"rho": float("nan")}, {"terms": []}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="SAM: rho="):
        SAM(**settings)


def test_a_term_that_is_not_there_is_refused(make_model):
    with pytest.raises(ConfigError, match="SAM perturbs the terms"):
        UnlearningModule(make_model(), rule=SAM(terms=["forgt"]))


def test_a_rule_from_its_import_path(make_model):
    settings = {"_target_": "unlearning.methods.sam.SAM", "rho": 0.2}
    module = UnlearningModule(make_model(), rule=settings)
    assert isinstance(module.rule, SAM) and module.rule.rho == 0.2
    assert module.hparams["rule"] == settings
    again = UnlearningModule(make_model(), rule=SAM(0.3))
    stored = {"_target_": "unlearning.methods.sam.SAM", "rho": 0.3, "terms": ["forget"]}
    assert again.hparams["rule"] == stored
    with pytest.raises(ConfigError, match="is no StepRule"):
        UnlearningModule(make_model(), rule={"_target_": "builtins.dict"})
    with pytest.raises(ConfigError, match="cannot take"):
        UnlearningModule(make_model(), rule={**settings, "rh": 1})


def test_bf16_weights_are_refused_where_they_would_not_move(make_model, make_data, quiet_trainer):
    module = UnlearningModule(make_model(), rule=SAM())
    with pytest.raises(ConfigError, match="moves weights by less than bf16 can tell apart"):
        quiet_trainer(max_steps=1, precision="bf16-true").fit(module, make_data())


def test_what_is_logged_does_not_depend_on_what_a_rule_asks(make_model, make_data):
    module = UnlearningModule(make_model(), reference="copy")
    data = make_data()
    data.setup()
    batch = data.batch_at(0)
    total = module.loss(batch).total.item()
    terms = module.term_gradients(batch)
    terms("forget")
    terms("forget", "mismatch")
    terms()
    assert terms.values.total.item() == pytest.approx(total, rel=1e-5)


def test_validation_does_not_round_the_weights(make_model, make_data, quiet_trainer):
    module = UnlearningModule(make_model(), reference="copy")
    data = make_data()
    data.setup()
    with pytest.raises(ConfigError, match="would round this module's weights"):
        quiet_trainer(precision="bf16-true").validate(module, [data.batch_at(0)], verbose=False)
