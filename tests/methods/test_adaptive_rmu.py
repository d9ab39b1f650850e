"""Adaptive RMU held to a naive computation from all hidden states."""

from __future__ import annotations

import pytest
import torch
from naive import gradients, mean_of, relative_error

from unlearning.losses import TokenLosses
from unlearning.methods.adaptive_rmu import steer_by_norm
from unlearning.methods.rmu import RMU, direction, steer
from unlearning.models.decoder import frozen_copy

from .test_rmu import LAYER, SEED, pairs, states

BETA = 3.0
TERMS = {
    "forget": {
        "loss": steer_by_norm, "role": "forget", "layer": LAYER,
        "options": {"beta": BETA, "seed": SEED},
    },
    "retain": {"loss": "unlearning.methods.rmu.hold", "role": "retain", "weight": 1200.0},
}  # fmt: skip


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, make_data, layout):
    module = RMU(make_model(), layer=LAYER, terms=TERMS, reference="copy", trained=[r"\."])
    module = module.double()
    data = make_data()
    data.setup()
    module.build_reference()
    before = frozen_copy(module.policy)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.mul_(1.1)
    data.layout = layout
    batch = data.batch_at(1)
    found = module.loss(batch)
    values = []
    for pair in pairs(data, batch, "forget"):
        theirs = states(before, pair).detach()
        target = BETA * theirs.norm(dim=-1, keepdim=True) * direction(32, SEED)
        values.append((states(module.policy, pair) - target).pow(2).mean())
    expected = mean_of(values)
    assert found.terms["forget"].item() == pytest.approx(expected.item(), rel=1e-12)
    hold = mean_of(
        (states(module.policy, pair) - states(before, pair).detach()).pow(2).mean()
        for pair in pairs(data, batch, "retain")
    )
    theirs = gradients(expected + 1200 * hold, module.policy)
    assert relative_error(gradients(found.total, module.policy), theirs) < 1e-11


def test_with_states_of_one_length_it_is_rmu():
    generator = torch.Generator().manual_seed(0)
    hidden, reference = (torch.randn(4, 8, generator=generator) for _ in "ab")
    reference = 2.0 * reference / reference.norm(dim=-1, keepdim=True)
    tokens = TokenLosses(
        torch.zeros(4), torch.tensor([0, 0, 1, 1]), 2, hidden=hidden, reference_hidden=reference
    )
    ours = steer_by_norm(tokens, beta=1.5, seed=SEED)
    torch.testing.assert_close(ours, steer(tokens, scale=3.0, seed=SEED))


def test_each_token_has_the_length_of_its_own_state():
    """By hand: a state at 0 is beta |h_ref| away, here 2 * 5 and 2 * 0, and (100 / 2 + 0) / 2."""
    before = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    tokens = TokenLosses(
        torch.zeros(2), torch.tensor([0, 0]), 1, hidden=torch.zeros(2, 2), reference_hidden=before
    )
    assert steer_by_norm(tokens, beta=2.0).item() == pytest.approx(25.0, rel=1e-6)


def test_released_code_keeps_the_mean_norm_of_its_first_batch():
    """There all tokens of a topic share one length, in every later step, too."""
    generator = torch.Generator().manual_seed(1)
    first, later = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    later = 3.0 * later * torch.arange(1, 7)[:, None]
    hidden = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    tokens = TokenLosses(
        torch.zeros(6), torch.tensor([0] * 6), 1, hidden=hidden, reference_hidden=later
    )
    released = steer(tokens, scale=BETA * first.norm(dim=-1).mean().item(), seed=SEED)
    lengths = BETA * later.norm(dim=-1, keepdim=True)
    ours = (hidden - lengths * direction(8, SEED)).pow(2).mean()
    assert steer_by_norm(tokens, BETA, SEED).item() == pytest.approx(ours.item(), rel=1e-12)
    assert ours.item() > 10 * released.item()


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_bad_options_are_told(beta):
    tokens = TokenLosses(torch.zeros(1), torch.tensor([0]), 1, hidden=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="must be above 0"):
        steer_by_norm(tokens, beta=beta)


def test_the_configuration_composes(compose_config):
    config = compose_config("method=adaptive_rmu", "method.layer=2")
    assert config.objective.forget.layer == config.objective.retain.layer == 2
    assert config.objective.forget.options == {"beta": 5.0, "seed": 0}
