"""GradDiff: its terms are ascent and descent, without mismatch answers."""

from __future__ import annotations

import pytest
from naive import forget_loss
from omegaconf import OmegaConf

from unlearning.methods.graddiff import GRADDIFF_TERMS
from unlearning.objective import Objective

from .forget_losses import held_to


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, make_data, layout):
    forget = {"loss": GRADDIFF_TERMS["forget"]["loss"]}
    held_to(forget_loss, forget, make_model, make_data, layout)


def test_the_terms_are_those_of_the_configuration(compose_config):
    found = OmegaConf.to_container(compose_config("method=graddiff").objective, resolve=True)
    assert {n: t for n, t in found.items() if t["weight"] > 0} == GRADDIFF_TERMS
    no_retain = compose_config("method=graddiff", "objective.retain.weight=0").objective
    assert Objective(no_retain).roles == {"forget"}
    kl = "objective.retain.loss=unlearning.losses.kl_to_reference"
    assert Objective(compose_config("method=graddiff", kl).objective).reference_roles == {"retain"}
