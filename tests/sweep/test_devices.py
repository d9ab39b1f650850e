"""GPUs and cores for jobs side by side."""

from __future__ import annotations

import os
import stat

import pytest
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.sweep.devices import Wish, assign_devices, number_of_devices, visible_gpus


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")


def test_slices_of_what_is_visible(four_gpus):
    pair = Wish("auto", 2)
    assert assign_devices([pair] * 5, 2) == [
        {"CUDA_VISIBLE_DEVICES": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "6,7"},
    ]


def test_the_largest_job_sets_the_slice(four_gpus):
    places = assign_devices([Wish("gpu", 1), Wish("gpu", 2)], 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["4,5", "6,7"]


def test_one_at_a_time_sees_them_all(four_gpus):
    assert assign_devices([Wish("gpu", None)] * 2, 1) == [{}]


@pytest.mark.parametrize(
    ("wishes", "n_jobs", "said"),
    [
        ([Wish("gpu", 2)] * 3, 3, "need 6 GPU.s.; there are 4"),
        ([Wish("gpu", 5)], 1, "need 5 GPU.s.; there are 4"),
        ([Wish("auto", None)] * 2, 2, "trainer.devices to a number"),
        ([Wish("gpu", 1)], 0, "n_jobs=0"),
    ],
)
def test_too_few_are_an_error(wishes, n_jobs, said, four_gpus):
    with pytest.raises(ConfigError, match=said):
        assign_devices(wishes, n_jobs)


def test_more_places_than_jobs_need_no_more_gpus(four_gpus):
    assert assign_devices([Wish("gpu", 4)], 2)[0] == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}


def test_cores_are_shared_by_jobs_and_their_ranks(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert assign_devices([Wish("cpu", 2)], 4) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert assign_devices([Wish("cpu", 1)], 99)[0] == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert assign_devices([Wish("cpu", 1)], 2) == [{}, {}]


@pytest.mark.parametrize(
    ("devices", "number"),
    [(2, 2), ("2", 2), ("0,3", 2), ([1, 2, 3], 3), ("auto", None), (-1, None), ("-1", None)],
)
def test_what_trainer_devices_means(devices, number):
    assert number_of_devices(OmegaConf.create({"devices": devices}).devices) == number


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ("", []),
        ("-1", []),
        ("2", ["2"]),
        ("0, 3", ["0", "3"]),
        ("GPU-8a,GPU-b", ["GPU-8a", "GPU-b"]),
    ],
)
def test_gpus_named_by_the_environment(allowed, names):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": allowed}) == names


def test_gpus_counted_by_the_driver(tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: X (UUID: a)'\necho '  MIG 1g'\necho 'GPU 1: X'\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus({}) == ["0", "1"]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert visible_gpus({}) == []
