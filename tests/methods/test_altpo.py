"""AltPO held to a naive computation, one pair of an alternate answer and the one to forget at a
time; its loss is `unlearning.methods.dpo`, which has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from naive import gradients, mean_of, relative_error, token_nlls
from omegaconf import OmegaConf
from pairs import ALTERNATE, FORGET, PROMPTS, RETAIN, moved_policy, ratio, values_of

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(scope="module")
def config():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", ["experiment=demo", "method=altpo"])


@pytest.fixture(scope="module")
def terms(config) -> dict:
    return OmegaConf.to_container(config.objective, resolve=True)


def test_its_settings_are_those_of_its_code(config):
    assert set(config.objective) == {"forget", "retain"}
    assert config.objective.forget.options == {"beta": 0.1}
    assert config.objective.retain.loss == "unlearning.losses.nll"
    assert config.objective.forget.weight == config.objective.retain.weight == 1
    asked = config.data.alternate
    assert (asked["of"], asked.samples, asked.temperature, asked.top_p) == ("model", 5, 1, None)
    assert {"{prompt}", "{answer}"} <= {*asked.instruction.replace("\n", " ").split()}


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_each_alternate_answer_is_a_pair_with_the_answer_to_forget(make_model, terms, layout):
    """-(2 / beta) log sigmoid, averaged over all pairs; and the NLL of the retain answers."""
    policy, reference = moved_policy(make_model)
    found = values_of(policy, reference, terms, layout, alternates=2)

    def naive(winner, loser, prompt, beta=0.1) -> torch.Tensor:
        gained = ratio(policy, reference, (prompt, winner))
        lost = ratio(policy, reference, (prompt, loser))
        return -2 / beta * torch.log(1 / (1 + torch.exp(-beta * (gained - lost))))

    forget = mean_of(
        naive(winner, loser, prompt)
        for prompt, winners, loser in zip(PROMPTS, ALTERNATE, FORGET, strict=True)
        for winner in winners
    )
    retain = mean_of(token_nlls(policy, pair).mean() for pair in RETAIN)
    assert found.terms["forget"].item() == pytest.approx(forget.item(), rel=1e-10)
    assert found.total.item() == pytest.approx((forget + retain).item(), rel=1e-10)
    expected = gradients(forget + retain, policy)
    assert relative_error(gradients(found.total, policy), expected) < 1e-10


def test_released_code_trains_on_each_pair_once_an_epoch_and_a_draw_is_its_mean(make_model, terms):
    """All alternate answers at once give the mean over the sets of one for each prompt."""
    policy, reference = moved_policy(make_model)
    both = values_of(policy, reference, terms, "padded", alternates=2).terms["forget"]
    one = values_of(policy, reference, terms, "padded", alternates=1).terms["forget"]
    turned = tuple((second, first) for first, second in ALTERNATE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pairs.ALTERNATE", turned)
        other = values_of(policy, reference, terms, "padded", alternates=1).terms["forget"]
    assert abs(one.item() - other.item()) > 0.01
    assert both.item() == pytest.approx((one.item() + other.item()) / 2, rel=1e-12)
