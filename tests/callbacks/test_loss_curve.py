"""The table of losses: its numbers, and one file over crashes and resumes."""

from __future__ import annotations

import csv

import pytest
import torch
from lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from unlearning.callbacks.loss_curve import LossCurve, read_rows
from unlearning.errors import ConfigError

from .conftest import SaveAt


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_what_was_logged_and_the_rate_that_was_used(fit, tmp_path):
    """Linear decay over 5 steps from 1e-3: the rate of step n is (6 - n) / 5 of it."""
    seen = {}

    class See(Callback):
        def on_train_batch_end(self, trainer, *_):
            seen[trainer.global_step] = {n: float(v) for n, v in trainer.callback_metrics.items()}

    path = tmp_path / "run" / "losses.csv"
    fit(LossCurve(path), See(), max_steps=5, module={"schedule": "linear"})
    rows = table(path)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert list(rows[0])[:2] == ["step", "learning_rate"]
    assert {f"train/{name}" for name in list(rows[0])[2:]} == set(seen[1])
    for row in rows:
        step = int(row["step"])
        assert float(row["learning_rate"]) == pytest.approx(1e-3 * (6 - step) / 5)
        for name, value in seen[step].items():
            assert float(row[name.removeprefix("train/")]) == pytest.approx(value, rel=1e-8)


def test_a_step_of_several_batches_is_their_mean(fit, tmp_path):
    calls = iter(range(100))
    script = {"train/retain": lambda step: float(next(calls))}
    fit(
        LossCurve(tmp_path / "losses.csv", every_n_steps=2),
        max_steps=4,
        accumulate_grad_batches=2,
        module={"script": script},
    )
    # Batches 0 1 | 2 3 | 4 5 | 6 7; rows for the second and the fourth step.
    found = [(row["step"], row["retain"]) for row in table(tmp_path / "losses.csv")]
    assert found == [("2", "2.5"), ("4", "6.5")]


def test_a_resumed_run_goes_on_in_the_same_file(fit, tmp_path):
    whole, path = tmp_path / "whole.csv", tmp_path / "losses.csv"
    fit(LossCurve(whole))
    fit(LossCurve(path), SaveAt(3, tmp_path / "three.ckpt"), max_steps=5)
    path.write_text(path.read_text() + "2,0.0")  # and it crashed in mid-row
    fit(LossCurve(path), ckpt_path=tmp_path / "three.ckpt")
    assert path.read_text() == whole.read_text()
    fit(LossCurve(path), max_steps=2)  # a new run, not a resumed one
    assert path.read_text() == "".join(whole.read_text().splitlines(keepends=True)[:3])


def test_columns_may_come_and_go_with_a_resume(fit, tmp_path):
    path = tmp_path / "losses.csv"
    fit(
        LossCurve(path, flush_every=1),
        SaveAt(2, tmp_path / "two.ckpt"),
        max_steps=2,
        module={"script": {"train/old": lambda step: 1.5}},
    )
    fit(
        LossCurve(path, flush_every=1),
        ckpt_path=tmp_path / "two.ckpt",
        max_steps=4,
        module={"script": {"train/new": lambda step: 2.5}},
    )
    rows = table(path)
    assert [row["old"] for row in rows] == ["1.5", "1.5", "", ""]
    assert [row["new"] for row in rows] == ["", "", "2.5", "2.5"]
    assert all(row["total"] for row in rows)


def test_a_run_that_fails_has_written_its_rows(fit, tmp_path):
    class Fail(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:
                raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(LossCurve(tmp_path / "losses.csv"), Fail())
    assert [row["step"] for row in table(tmp_path / "losses.csv")] == ["1", "2", "3"]


def test_a_checkpoint_never_knows_more_steps_than_the_file(fit, tmp_path):
    class Look(SaveAt):
        def on_train_batch_end(self, trainer, *args):
            super().on_train_batch_end(trainer, *args)
            if trainer.global_step == self.step:
                self.found = [row["step"] for row in table(tmp_path / "losses.csv")]

    look = Look(3, tmp_path / "three.ckpt")
    fit(LossCurve(tmp_path / "losses.csv"), look)
    assert look.found == ["1", "2", "3"]


def test_steps_are_read_at_once_when_written_and_not_before(fit, tmp_path, monkeypatch):
    reads, tolist = [], torch.Tensor.tolist

    def counting(tensor):
        reads[-1] += 1
        return tolist(tensor)

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                reads[-1] += 1
            return function(*args, **(kwargs or {}))

    class Watched(LossCurve):
        def on_train_batch_end(self, *args):
            reads.append(0)
            with Count(), monkeypatch.context() as patched:
                patched.setattr(torch.Tensor, "tolist", counting)
                super().on_train_batch_end(*args)

    fit(Watched(tmp_path / "losses.csv", flush_every=4), max_steps=5)
    assert reads == [0, 0, 0, 1, 0]


def test_somebody_elses_file_is_not_touched(fit, tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("name,age\nx,3\n")
    with pytest.raises(ConfigError, match=r"\['name', 'age'\]"):
        read_rows(path)


def test_a_file_that_is_no_loss_curve_is_left_alone(fit, tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("date,amount\nMonday,3\n")
    with pytest.raises(ConfigError, match="was not written by LossCurve"):
        fit(LossCurve(path), max_steps=1)
    assert path.read_text() == "date,amount\nMonday,3\n"
