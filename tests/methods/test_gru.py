"""GRU's rectified gradient, held to the projection of the whole step's gradients by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from hydra import compose, initialize_config_dir
from naive import forget_loss, gradients, mean_of, relative_error, token_nlls
from run.small import checked
from test_module import SGD, Recorder, pairs, trained_weights
from torch import nn

from unlearning.callbacks.checkpoint import KeepCheckpoints
from unlearning.errors import ConfigError
from unlearning.methods.gru import GRU
from unlearning.models.load import disable_dropout
from unlearning.module import UnlearningModule
from unlearning.run.config.overrides import config_folder
from unlearning.training.batch_loss import BatchValues
from unlearning.training.step_rule import TermGradients

TERMS = {
    "forget": {"loss": "unlearning.losses.gradient_ascent", "role": "forget"},
    "retain": {"loss": "unlearning.losses.nll", "role": "retain"},
}
GAMMA = 0.8
EXACT = {"schedule": "constant", **SGD}


def nll(model, answers):
    return mean_of(token_nlls(model, pair).mean() for pair in answers)


def flat(gradient):
    return torch.cat([value.flatten() for value in gradient.values()])


def rectified(u, r):
    """The nearest vector to u with <., r> >= 0."""
    inner = (flat(u) * flat(r)).sum()
    if inner >= 0:
        return u
    return {n: u[n] - inner / flat(r).pow(2).sum() * r[n] for n in u}


def naive_training(model, data, steps, per_step=1, rate=SGD["learning_rate"], gamma=GAMMA):
    """Trains by hand; returns the cosine of each step and how many were in conflict."""
    smooth, cosines = None, []
    for step in range(steps):
        batches = [data.batch_at(step * per_step + n) for n in range(per_step)]
        forget = [p for batch in batches for p in pairs(data, batch, "forget")]
        retain = [p for batch in batches for p in pairs(data, batch, "retain")]
        u = gradients(forget_loss(model, forget), model)
        r = gradients(nll(model, retain), model)
        old = smooth or {n: torch.zeros_like(v) for n, v in r.items()}
        smooth = {n: gamma * r[n] + (1 - gamma) * old[n] for n in r}
        cosines.append(float(torch.cosine_similarity(flat(u), flat(smooth), dim=0)))
        step_of = rectified(u, smooth)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter -= rate * step_of[name]
    return cosines


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("lora", [None, {"r": 2, "dropout": 0.0}])
def test_a_training_is_the_one_by_hand(
    make_model, make_data, quiet_trainer, layout, accumulated, lora
):
    """With accumulation, what is projected is the gradient of the whole step."""
    module = UnlearningModule(
        make_model().double(), TERMS, lora=lora, rule=GRU(gamma=GAMMA), **EXACT
    ).double()  # fmt: skip
    if lora:  # B is 0 at first, and so is A's gradient
        with torch.no_grad():
            for name, weight in module.policy.named_parameters():
                if "lora_B" in name:
                    weight += 0.1
    naive = copy.deepcopy(module.policy)
    disable_dropout(naive)
    start = trained_weights(naive)
    data, recorder = make_data(layout=layout, batch_size=2), Recorder()
    quiet_trainer(
        max_steps=4, precision="64-true", accumulate_grad_batches=accumulated, callbacks=[recorder]
    ).fit(module, data)
    cosines = naive_training(naive, data, 4, accumulated)
    assert min(cosines) < 0, "no step was in conflict, so nothing was tested"
    ours, theirs = trained_weights(module.policy), trained_weights(naive)
    moved, expected = ({n: w[n] - start[n] for n in start} for w in (ours, theirs))
    assert relative_error(moved, expected) < 1e-10
    logged = [each["train/cosine"] for each in recorder.logged][accumulated - 1 :: accumulated]
    assert logged == pytest.approx(cosines, rel=1e-5)


def small(losses):
    """Gradients of one weight [2] under linear terms, whose gradients are given."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def compute(names):
        total = sum((torch.tensor(losses[n]).double() @ weight) for n in names)
        return BatchValues(total, {n: weight.sum() * 0 for n in names})

    return TermGradients({"w": weight}, compute, list(losses))


def test_values_by_hand():
    """u = (1, -1) against r = (0, 2): what opposes r goes, and (1, 0) stays."""
    terms = small({"forget": [1.0, -1.0], "retain": [0.0, 2.0]})
    assert GRU(gamma=1.0).gradient(terms)["w"].tolist() == [1.0, 0.0]
    assert terms.logged["cosine"].item() == pytest.approx(-(2**-0.5))


def test_a_checkpoint_can_be_the_best_by_what_it_logs(
    make_model, make_data, quiet_trainer, tmp_path
):
    recorder = Recorder()
    keep = KeepCheckpoints(tmp_path / "kept", 1, keep=1, best="train/cosine", mode="max")
    trainer = quiet_trainer(max_steps=3, callbacks=[recorder, keep], enable_checkpointing=True)
    trainer.fit(UnlearningModule(make_model(), TERMS, rule=GRU(), **EXACT), make_data())
    cosines = [each["train/cosine"] for each in recorder.logged]
    assert keep.best_score == max(cosines) and keep.best_step == 1 + cosines.index(max(cosines))
    alone = UnlearningModule(make_model(), TERMS, **EXACT)
    before = Recorder()
    quiet_trainer(max_steps=1, callbacks=[before]).fit(alone, make_data())
    further = recorder.logged[0].keys() - before.logged[0].keys()
    assert further == {f"train/{name}" for name in GRU.logs}


def test_without_a_conflict_every_bit_of_the_forget_gradient_stays():
    for retain in ([0.3, 0.1], [-0.7, 0.7 / 3], [0.0, 0.0]):
        terms = small({"forget": [0.1, 0.7], "retain": retain})
        if 0.1 * retain[0] + 0.7 * retain[1] >= 0:
            assert torch.equal(GRU().gradient(terms)["w"], terms("forget")["w"])


def test_opposite_gradients_leave_no_step():
    terms = small({"forget": [1.0, -2.0], "retain": [-3.0, 6.0]})
    assert GRU().gradient(terms)["w"].abs().max() < 1e-15


def test_the_size_of_the_retain_weight_changes_nothing():
    steps = [
        GRU().gradient(small({"forget": [1.0, -1.0], "retain": [w, 2 * w]}))["w"]
        for w in (1.0, 300.0)
    ]
    torch.testing.assert_close(*steps)


def test_retain_gradients_are_smoothed_over_steps():
    """0.75 (0, 1) + 0.25 * 0.75 (1, 0); the step in between is not counted twice."""
    rule = GRU(gamma=0.75)
    rule.gradient(small({"forget": [0.0, 0.0], "retain": [1.0, 0.0]}))
    rule.step_done()
    rule.gradient(small({"forget": [0.0, 0.0], "retain": [0.0, 1.0]}))
    rule.step_done()
    rule.step_done()  # no gradient came between
    assert rule.state_dict()["smoothed"]["w"].tolist() == [0.25 * 0.75, 0.75]


def test_the_smoothed_gradient_is_of_the_mean_over_micro_batches():
    """A step of another number of them counts as much: half of ((1, 0) + (0, 3)) / 2."""
    rule = GRU(gamma=0.5)
    for retain in ([1.0, 0.0], [0.0, 3.0]):
        rule.gradient(small({"forget": [0.0, 0.0], "retain": retain}))
    rule.step_done()
    assert rule.state_dict()["smoothed"]["w"].tolist() == [0.25, 0.75]


def test_terms_that_it_asks_for_together_by_hand():
    names = ["keep", "forget", "retain", "too"]
    assert GRU().together(names) == [("forget",), ("retain",), ("keep", "too")]


def test_other_terms_are_descended_as_they_are():
    terms = small({"forget": [1.0, -1.0], "retain": [0.0, 2.0], "keep": [5.0, -7.0]})
    assert GRU(gamma=1.0).gradient(terms)["w"].tolist() == [6.0, -7.0]


def test_graddiff_is_rectified_as_a_whole():
    """u = (1, -5) + (0, 2) = (1, -3)."""
    terms = small({"forget": [1.0, -5.0], "retain": [0.0, 2.0]})
    rule = GRU(["forget", "retain"], gamma=1.0)
    assert rule.gradient(terms)["w"].tolist() == [1.0, 0.0]
    assert terms.logged["cosine"].item() == pytest.approx(-3 / 10**0.5)


def test_its_state_is_resumed_bit_by_bit(make_model, make_data, quiet_trainer, tmp_path):
    found = []
    for stop in (None, 3):
        path = tmp_path / "gru.ckpt"
        module = UnlearningModule(make_model(), TERMS, rule=GRU(gamma=0.3), **EXACT)
        trainer = quiet_trainer(max_steps=stop or 6)
        trainer.fit(module, make_data())
        if stop:
            trainer.save_checkpoint(path)
            assert torch.load(path, weights_only=True)["rule"]["smoothed"]
            module = UnlearningModule(make_model(), TERMS, rule=GRU(gamma=0.3), **EXACT)
            quiet_trainer(max_steps=6).fit(module, make_data(), ckpt_path=path)
        found.append(trained_weights(module.policy))
    for name, weight in found[0].items():
        assert torch.equal(found[1][name], weight), name


def test_a_step_in_progress_is_not_in_the_state():
    rule = GRU()
    rule.gradient(small({"forget": [1.0, 0.0], "retain": [1.0, 0.0]}))
    assert rule.state_dict() == {"smoothed": {}}
    rule.load_state_dict({})
    assert rule._seen == 0


@pytest.mark.parametrize(
    "settings", [{"gamma": 0.0}, {"gamma": 1.5}, {"rectified": []}, {"constraints": []}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="GRU: gamma="):
        GRU(**settings)


def test_a_constraint_that_is_left_out_is_refused(make_model):
    terms = {**TERMS, "retain": {**TERMS["retain"], "weight": 0.0}}
    with pytest.raises(ConfigError, match=r"GRU works with the terms \['forget', 'retain'\]"):
        UnlearningModule(make_model(), terms, rule=GRU())


def test_the_configuration():
    def composed(*words):
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose("config", overrides=["experiment=demo", "method=gru", *words])

    lines = checked(composed())
    assert any("with GRU: 1 x forget + 1 x retain" in line for line in lines)
    with pytest.raises(ConfigError, match="GRU works with"):
        checked(composed("objective.retain.weight=0"))
