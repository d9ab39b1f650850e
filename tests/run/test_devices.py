"""Processes that a run asks for, against what is there."""

from __future__ import annotations

import os

import pytest

from unlearning.errors import ConfigError
from unlearning.run.devices import check_devices

CORES = len(os.sched_getaffinity(0))


def test_one_process_a_device(compose_config):
    assert check_devices(compose_config("experiment=demo")) == 1
    if CORES >= 2:
        assert check_devices(compose_config("experiment=demo", "trainer.devices=2")) == 2


def test_more_than_there_are(compose_config):
    config = compose_config("experiment=demo", f"trainer.devices={CORES + 1}")
    with pytest.raises(ConfigError, match=f"there are {CORES} cores.*trainer.devices={CORES}"):
        check_devices(config)


def test_more_gpus_than_there_are(compose_config):
    config = compose_config("experiment=demo", "trainer.accelerator=gpu", "trainer.devices=64")
    with pytest.raises(ConfigError, match=r"trainer cannot be made"):
        check_devices(config)


def test_another_number_of_processes_was_started(compose_config):
    config = compose_config("experiment=demo")
    with pytest.raises(ConfigError, match=r"4 processes were started.*trainer\.devices=4"):
        check_devices(config, world=4)


def test_several_machines_are_started_from_outside(compose_config):
    config = compose_config("experiment=demo", "+trainer.num_nodes=2")
    with pytest.raises(ConfigError, match="torchrun"):
        check_devices(config)
