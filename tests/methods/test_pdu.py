"""PDU's loss and multiplier, held to a naive computation of the paper's formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from hydra import compose, initialize_config_dir
from naive import gradients, mean_of, relative_error, token_nlls
from run.small import checked
from test_module import SGD, Recorder, pairs, trained_weights

from unlearning.errors import ConfigError
from unlearning.methods.pdu import PDU, PDU_TERMS, logit_margin
from unlearning.models.load import disable_dropout
from unlearning.run.config.overrides import config_folder

EXACT = {"schedule": "constant", **SGD, "learning_rate": 1e-3}
TERMS = {**PDU_TERMS, "retain": {**PDU_TERMS["retain"], "weight": 2.0}}


def margins(model, pair, shift: int = -1) -> torch.Tensor:
    """(max z - mean z)^2 at the positions that predict the answer; `shift` moves them."""
    prompt, answer = pair
    ids = torch.tensor([[*prompt, *answer]])
    logits = model(input_ids=ids, use_cache=False).logits[0]
    logits = logits[len(prompt) + shift : len(ids[0]) + shift]
    return (logits.max(-1).values - logits.mean(-1)) ** 2


def margin_loss(model, answers):
    return mean_of(margins(model, pair).mean() for pair in answers)


def nll(model, answers):
    return mean_of(token_nlls(model, pair).mean() for pair in answers)


@pytest.fixture
def in_fp64(make_model):
    def build(**settings):
        return PDU(make_model().double(), terms=TERMS, **{**EXACT, **settings}).double()

    return build


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(in_fp64, make_data, layout):
    module, data = in_fp64(epsilon=1.0), make_data(layout=layout)
    data.setup()
    batch = data.batch_at(1)
    found = module.loss(batch)
    flat = margin_loss(module.policy, pairs(data, batch, "forget"))
    kept = nll(module.policy, pairs(data, batch, "retain"))
    assert found.terms["forget"].item() == pytest.approx(flat.item(), rel=1e-10)
    assert found.terms["retain"].item() == pytest.approx(kept.item(), rel=1e-10)
    expected = gradients(flat + 2.0 * kept, module.policy)
    assert relative_error(gradients(found.total, module.policy), expected) < 1e-10


def test_the_released_mask_is_one_position_late(in_fp64, make_data):
    """There the positions *of* the answer's tokens count, not those that predict them."""
    module, data = in_fp64(epsilon=1.0), make_data(batch_size=1)
    data.setup()
    batch = data.batch_at(0)
    (pair,) = pairs(data, batch, "forget")
    ours, late = (margins(module.policy, pair, shift).mean().item() for shift in (-1, 0))
    assert module.loss(batch).terms["forget"].item() == pytest.approx(ours, rel=1e-10)
    assert abs(ours - late) > 1e-2 * ours


def test_margins_by_hand():
    logits = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-4.0, 2.0, 2.0]])
    targets = torch.tensor([2, 0, 1])
    assert logit_margin(logits, targets).tolist() == [4.0, 0.0, 4.0]
    shifted = logit_margin(logits + 100.0, targets)  # no softmax is shifted either
    torch.testing.assert_close(shifted, logit_margin(logits, targets))


def test_descent_makes_the_distribution_uniform():
    logits = torch.tensor([[5.0, -1.0, 0.5, 2.0]], dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(logit_margin(logits, torch.tensor([3])).sum(), logits)
        logits = (logits - 0.05 * gradient).detach().requires_grad_()
    assert logits.softmax(-1).max() < 0.27


# --- the multiplier ------------------------------------------------------------------------------


def naive_training(model, data, steps, per_step, dual, epsilon, dual_step, warmup):
    """theta by the Lagrangian, then lambda <- max(0, lambda + dual_step (L_r - epsilon))."""
    duals = []
    for step in range(steps):
        batches = [data.batch_at(step * per_step + n) for n in range(per_step)]
        forget = [p for batch in batches for p in pairs(data, batch, "forget")]
        retain = [p for batch in batches for p in pairs(data, batch, "retain")]
        kept = nll(model, retain)
        found = gradients(margin_loss(model, forget) + dual * (kept - epsilon), model)
        duals.append(dual)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= EXACT["learning_rate"] * found[name]
        if step >= warmup:
            dual = max(0.0, dual + dual_step * (kept.item() - epsilon))
    return [*duals, dual]


@pytest.mark.parametrize(
    ("accumulated", "epochs", "warmup", "epsilon"),
    [(1, 0, 0, 3.0), (1, 1, 3, 3.0), (2, 0, 0, 3.0), (1, 0, 0, 9.0)],
)
def test_a_training_is_the_one_by_hand(
    in_fp64, make_data, quiet_trainer, accumulated, epochs, warmup, epsilon
):
    """Three batches an epoch. Under a limit of 9 nats the multiplier comes to 0 and stays there."""
    module = in_fp64(epsilon=epsilon, dual_step=0.5, dual_warmup_epochs=epochs)
    naive = copy.deepcopy(module.policy)
    disable_dropout(naive)
    start, data, recorder = trained_weights(naive), make_data(), Recorder()
    quiet_trainer(
        max_steps=5, precision="64-true", accumulate_grad_batches=accumulated, callbacks=[recorder]
    ).fit(module, data)
    duals = naive_training(naive, data, 5, accumulated, 2.0, epsilon, 0.5, warmup)
    assert len(set(duals)) > 1 and (min(duals) == 0) == (epsilon == 9.0)
    ours, theirs = trained_weights(module.policy), trained_weights(naive)
    moved, expected = ({n: w[n] - start[n] for n in start} for w in (ours, theirs))
    assert relative_error(moved, expected) < 1e-10
    logged = [each["train/dual"] for each in recorder.logged][::accumulated]
    assert [*logged, module.dual] == pytest.approx(duals, rel=1e-6)
    last = recorder.logged[-1]
    assert last["train/retain_weighted"] == pytest.approx(duals[-2] * last["train/retain"])


def test_the_multiplier_rises_above_the_limit_and_falls_below_it(in_fp64, make_data):
    data = make_data()
    data.setup()
    for epsilon, sign in ((0.0, 1), (100.0, -1)):
        module = in_fp64(epsilon=epsilon, dual_step=1e-3)
        module.loss(data.batch_at(0))
        module.update_dual()
        assert sign * (module.dual - 2.0) > 0


def test_a_validation_does_not_move_it(in_fp64, make_data):
    module, data = in_fp64(epsilon=0.0), make_data()
    data.setup()
    with torch.no_grad():
        module.loss(data.batch_at(0))
    module.update_dual()
    assert module.dual == 2.0


# --- its limit -----------------------------------------------------------------------------------


def test_the_limit_is_a_share_above_the_loss_before(in_fp64, make_data, quiet_trainer):
    module = in_fp64(tolerance=0.25, measured_batches=4, dual_step=0.01, dual_warmup_epochs=0)
    naive, data = copy.deepcopy(module.policy), make_data()
    disable_dropout(naive)
    quiet_trainer(max_steps=1, precision="64-true").fit(module, data)
    before = mean_of(nll(naive, pairs(data, data.batch_at(n), "retain")) for n in range(4))
    assert module.epsilon == pytest.approx(1.25 * before.item(), rel=1e-10)


def test_a_kl_of_0_has_no_share(make_model, make_data, quiet_trainer):
    kl = {"loss": "unlearning.losses.kl_to_reference", "role": "retain"}
    module = PDU(make_model(), terms={**PDU_TERMS, "retain": kl}, reference="copy")
    with pytest.raises(ConfigError, match=r"'retain' is 0 before .* Give epsilon"):
        quiet_trainer(max_steps=1).fit(module, make_data())


def test_batches_without_a_data_module_need_a_limit(make_model, make_data, quiet_trainer):
    data = make_data()
    data.setup()
    with pytest.raises(ConfigError, match="Give epsilon"):
        quiet_trainer(max_steps=1).fit(PDU(make_model()), [data.batch_at(0)])


def test_a_training_that_ends_in_the_warm_up_says_so(make_model, make_data, quiet_trainer, caplog):
    quiet_trainer(max_steps=3).fit(PDU(make_model(), dual_warmup_epochs=1), make_data())
    assert "within the 1 epochs in which the multiplier is not updated" in caplog.text
    caplog.clear()
    quiet_trainer(max_steps=4).fit(PDU(make_model(), dual_warmup_epochs=1), make_data())
    assert "multiplier is not updated" not in caplog.text


# --- state ---------------------------------------------------------------------------------------


def test_multiplier_and_limit_are_resumed_bit_by_bit(
    make_model, make_data, quiet_trainer, tmp_path
):
    settings = {"terms": TERMS, "dual_warmup_epochs": 1, "dual_step": 0.3, **EXACT}
    found, path = [], tmp_path / "pdu.ckpt"
    for stop in (None, 5):
        module = PDU(make_model(), **settings)
        trainer = quiet_trainer(max_steps=stop or 8)
        trainer.fit(module, make_data())
        if stop:
            trainer.save_checkpoint(path)
            dual, epsilon = module.dual, module.epsilon
            assert torch.load(path, weights_only=True)["pdu"] == {"dual": dual, "epsilon": epsilon}
            module = PDU(make_model(), **settings)
            quiet_trainer(max_steps=8).fit(module, make_data(), ckpt_path=path)
        found.append((trained_weights(module.policy), module.dual, module.epsilon))
    assert found[0][1:] == found[1][1:] and found[0][1] != 2.0
    for name, weight in found[0][0].items():
        assert torch.equal(found[1][0][name], weight), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dual_step": 0.0}, "dual_step=0.0 must be above 0"),
        ({"epsilon": -1.0}, "epsilon=-1.0 at least 0"),
        ({"tolerance": -0.1}, "tolerance=-0.1"),
        ({"measured_batches": 0}, "measured_batches=0 at least 1"),
        ({"constraint": "retian"}, "'retian' is none of the terms"),
        ({"rule": {"_target_": "unlearning.methods.sam.SAM"}}, "takes no step rule"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_model, settings, message):
    with pytest.raises(ConfigError, match=message):
        PDU(make_model(), **settings)


def test_without_a_limit_no_update(make_model, make_data):
    module, data = PDU(make_model()), make_data()
    data.setup()
    module.loss(data.batch_at(0))
    with pytest.raises(ConfigError, match="epsilon is not known"):
        module.update_dual()


def test_the_configuration():
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", overrides=["experiment=demo", "method=pdu"])
    assert any("PDU: 1 x forget + 100 x retain" in line for line in checked(config))
