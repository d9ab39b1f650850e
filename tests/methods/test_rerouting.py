"""Representation rerouting held to a naive computation, and its schedule to the paper's."""

from __future__ import annotations

import pytest
import torch
from lightning import Callback
from naive import gradients, mean_of, relative_error
from omegaconf import OmegaConf

from unlearning.callbacks import CollapseGuard
from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses
from unlearning.methods.rerouting import Rerouting, keep, reroute, rerouting_terms
from unlearning.models.decoder import frozen_copy
from unlearning.run.config.method import build_module

from .test_rmu import pairs, states

LAYERS = (0, 1)
ALPHA = 4.0


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("step", [0, 3])
def test_the_loss_is_the_naive_one(make_model, make_data, layout, step):
    module = Rerouting(make_model(), LAYERS, alpha=ALPHA, reference="copy").double()
    module.build_reference()
    before = frozen_copy(module.policy)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.mul_(0.6).add_(0.05)
    data = make_data()
    data.setup()
    data.layout = layout
    batch = data.batch_at(1)
    module.schedule(step, 4)
    total = torch.zeros((), dtype=torch.float64)
    for layer in LAYERS:
        turned, moved = [], []
        for pair in pairs(data, batch, "forget"):
            now, then = states(module.policy, pair, layer), states(before, pair, layer).detach()
            cosines = (now * then).sum(-1) / (now.norm(dim=-1) * then.norm(dim=-1))
            turned.append(torch.where(cosines > 0, cosines, 0 * cosines).mean())
        for pair in pairs(data, batch, "retain"):
            now, then = states(module.policy, pair, layer), states(before, pair, layer).detach()
            moved.append((now - then).pow(2).sum(-1).sqrt().mean())
        # arXiv 2406.04313, Algorithm 1, with T = 4
        total = total + ALPHA * (1 - step / 8) * mean_of(turned) / 2
        total = total + ALPHA * step / 8 * mean_of(moved) / 2
    found = module.loss(batch)
    assert found.total.item() == pytest.approx(total.item(), rel=1e-10)
    theirs = gradients(total, module.policy)
    assert relative_error(gradients(found.total, module.policy), theirs) < 1e-10


def test_the_weights_go_from_forgetting_to_as_much_of_both(make_model, make_data, quiet_trainer):
    class Seen(Rerouting):
        def loss(self, batch):
            weights.append([self.objective.terms[n].weight for n in ("forget_0", "retain_0")])
            return super().loss(batch)

    weights: list[list[float]] = []
    module = Seen(make_model(), LAYERS, alpha=ALPHA, learning_rate=1e-4)
    quiet_trainer(max_steps=4).fit(module, make_data())
    expected = [[2 * (1 - t / 8), 2 * t / 8] for t in range(4)]
    assert weights == expected


def test_with_accumulation_a_step_has_one_weight(make_model, make_data, quiet_trainer):
    seen = []

    class Seen(Rerouting):
        def loss(self, batch):
            seen.append(self.objective.terms["retain_0"].weight)
            return super().loss(batch)

    module = Seen(make_model(), LAYERS, alpha=ALPHA)
    quiet_trainer(max_steps=2, accumulate_grad_batches=2).fit(module, make_data())
    assert seen == [0.0, 0.0, 0.5, 0.5]


def test_a_state_past_the_right_angle_is_left_alone():
    """Cosines .6 and -.8, of which the second adds neither a value nor a gradient."""
    hidden = torch.tensor([[3.0, 4.0], [-4.0, 3.0]], dtype=torch.float64, requires_grad=True)
    before = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    tokens = TokenLosses(
        torch.zeros(2), torch.tensor([0, 0]), 1, hidden=hidden, reference_hidden=before
    )
    found = reroute(tokens)
    assert found.item() == pytest.approx(0.3, rel=1e-12)
    (gradient,) = torch.autograd.grad(found, hidden)
    # d cos / d h = (u - cos v) / |h| with the unit vectors u, v of h_ref and h; half of it.
    expected = torch.tensor([[0.64, -0.48], [0.0, 0.0]], dtype=torch.float64) / 5 / 2
    torch.testing.assert_close(gradient, expected)


def test_the_start_has_no_gradient(make_model, make_data):
    """The cosine is largest where nothing has moved; a step leaves the start by rounding alone."""
    module = Rerouting(make_model(), LAYERS, alpha=ALPHA, reference="copy").double()
    data = make_data()
    data.setup()
    found = module.loss(data.batch_at(0))
    assert found.total.item() == pytest.approx(ALPHA, rel=1e-12)
    found.total.backward()
    trained = [p.grad for p in module.policy.parameters() if p.grad is not None]
    assert trained and max(float(gradient.abs().max()) for gradient in trained) < 1e-12


def test_forget_states_turn_away_from_where_they_were(make_model, make_data, quiet_trainer):
    settings = {"learning_rate": 3e-3, "schedule": "constant"}
    module, data = Rerouting(make_model(), LAYERS, alpha=ALPHA, **settings), make_data()
    data.setup()
    module.build_reference()
    assert module.loss(data.batch_at(0)).terms["forget_1"].item() == pytest.approx(1.0, abs=1e-5)
    quiet_trainer(max_steps=60).fit(module, data)
    assert module.loss(data.batch_at(0)).terms["forget_1"].item() < 0.7


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_the_schedule_goes_on_where_it_was(make_model, make_data, quiet_trainer, tmp_path):
    class Leave(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step >= 2

    settings = {"alpha": ALPHA, "learning_rate": 1e-2, "reference": "copy"}
    whole, first, resumed = (Rerouting(make_model(), LAYERS, **settings) for _ in range(3))
    quiet_trainer(max_steps=4).fit(whole, make_data())
    trainer = quiet_trainer(max_steps=4, callbacks=[Leave()])
    trainer.fit(first, make_data())
    path = tmp_path / "two.ckpt"
    trainer.save_checkpoint(path)
    quiet_trainer(max_steps=4).fit(resumed, make_data(), ckpt_path=path, weights_only=True)
    assert resumed.objective.terms["retain_0"].weight == ALPHA * 3 / 8 / 2
    for name, weight in whole.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], weight), name


def test_released_code_counts_padding_and_halves_the_distance():
    """There a state of padding is 0 before and after, and counts: [3, 4] and one pad are 5 / 2."""
    now, before = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    tokens = TokenLosses(torch.zeros(1), torch.tensor([0]), 1, hidden=now, reference_hidden=before)
    assert keep(tokens).item() == pytest.approx(5.0)
    padded = [torch.cat([states, torch.zeros(1, 2)]) for states in (now, before)]
    released = torch.norm(padded[0] - padded[1], dim=-1).nanmean()
    assert released.item() == pytest.approx(2.5)


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_released_code_counts_the_embeddings_as_layer_0(make_model, architecture):
    """Its layers 10 and 20 are what blocks 9 and 19 give, counted from 0."""
    model, pair = make_model(architecture).eval(), ([5, 6, 7], [8, 9])
    found = model(torch.tensor([[*pair[0], *pair[1]]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(found[1][0, 2:-1], states(model, pair, 0))


def test_what_cannot_be_is_told(make_model, make_data, quiet_trainer):
    with pytest.raises(ConfigError, match="alpha=0"):
        Rerouting(make_model(), LAYERS, alpha=0)
    guard = CollapseGuard(forget_nll=5.0, action="lower")
    with pytest.raises(ConfigError, match="Set action=stop"):
        quiet_trainer(max_steps=1, callbacks=[guard]).fit(
            Rerouting(make_model(), LAYERS), make_data()
        )
    with pytest.raises(ConfigError, match="give the Trainer max_steps"):
        quiet_trainer(max_epochs=1).fit(Rerouting(make_model(), LAYERS), make_data())


def test_the_configuration_is_the_class(compose_config, make_model):
    config = compose_config("method=rerouting", "method.layers=[0,1]")
    assert [term.layer for term in config.objective.values()] == [0, 1, 0, 1]
    found = OmegaConf.to_container(config.objective, resolve=True)
    assert list(found.values()) == [*rerouting_terms([0, 1]).values()]
    module = build_module(config, make_model(), None)
    assert module.alpha == 10.0
