"""Representation rerouting held to a naive computation, and its schedule to the paper's."""

from __future__ import annotations

import pytest
import torch
from naive import gradients, mean_of, relative_error
from omegaconf import OmegaConf

from unlearning.callbacks import CollapseGuard
from unlearning.errors import ConfigError
from unlearning.methods.rerouting import Rerouting, rerouting_terms
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
