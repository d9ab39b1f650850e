from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from torch import nn

from unlearning.errors import ConfigError
from unlearning.training.optimizers import build_optimizer, build_schedule


def weights(number: int = 2) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3)) for _ in range(number)]


def rates(name: str, warmup: int, total: int) -> list[float]:
    optimizer = torch.optim.SGD(weights(), lr=1.0)
    schedule = build_schedule(optimizer, name, warmup, total)
    found = []
    for _ in range(total):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_adamw_is_torchs_with_the_given_rate():
    optimizer = build_optimizer(weights(), "adamw", 3e-4, {"weight_decay": 0.5})
    assert type(optimizer) is torch.optim.AdamW
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (3e-4, 0.5, True)


def test_frozen_weights_are_left_out():
    trained, frozen = weights()
    frozen.requires_grad_(False)
    optimizer = build_optimizer([trained, frozen])
    assert optimizer.param_groups[0]["params"] == [trained]


def test_any_optimizer_by_import_path():
    optimizer = build_optimizer(weights(), "torch.optim.SGD", 0.1, {"momentum": 0.9})
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["momentum"] == 0.9
    # transformers loads its names lazily, so they are not in vars(module)
    lazy = build_optimizer(weights(), "transformers.Adafactor", 0.1, {"relative_step": False})
    assert type(lazy).__name__ == "Adafactor"


def test_8bit_adam_is_an_extra():
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(ConfigError, match=r"pip install 'unlearning\[eightbit\]'"):
            build_optimizer(weights(), "adamw_8bit")
    else:
        optimizer = build_optimizer(weights(), "adamw_8bit")
        assert type(optimizer).__module__.startswith("bitsandbytes")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {}, r"Unknown optimizer 'adam'; give adamw, adamw_8bit or an import path"),
        ("torch.optim.AdamWW", {}, r"did you mean torch\.optim\.AdamW\?"),
        ("torch.optimm.Adam", {}, r"Cannot import 'torch\.optimm\.Adam'"),
        ("adamw", {"momentum": 0.9}, r"torch\.optim\.AdamW cannot take the options.*momentum"),
    ],
)
def test_what_is_no_optimizer_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(weights(), name, 1e-3, options)


def test_linear_decay_by_hand():
    assert rates("linear", 0, 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates("linear", 2, 6) == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0.25])


def test_constant_by_hand():
    assert rates("constant", 0, 3) == pytest.approx([1, 1, 1])
    assert rates("constant", 2, 4) == pytest.approx([0, 0.5, 1, 1])


def test_cosine_by_hand():
    expected = [(1 + math.cos(math.pi * n / 4)) / 2 for n in range(4)]
    assert rates("cosine", 0, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "warmup", "total", "message"),
    [
        ("linea", 0, 4, "Unknown schedule 'linea'; choose one of linear, constant, cosine"),
        ("linear", 5, 4, r"warmup_steps=5 must lie in 0\.\.4"),
        ("linear", -1, 4, r"warmup_steps=-1"),
        ("linear", 0, math.inf, "max_steps or max_epochs"),
    ],
)
def test_what_is_no_schedule_is_refused(name, warmup, total, message):
    with pytest.raises(ConfigError, match=message):
        build_schedule(torch.optim.SGD(weights(), lr=1.0), name, warmup, total)
