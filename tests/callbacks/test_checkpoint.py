"""Checkpoints every n steps: which stay, which is the best, and what a resume knows of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from lightning import Callback

from unlearning.callbacks.checkpoint import KeepCheckpoints
from unlearning.callbacks.interrupt import GracefulStop
from unlearning.checkpoints import newest_whole, problem, write_whole
from unlearning.errors import ConfigError

from .conftest import flat

SCORES = {1: 9.0, 2: 5.0, 3: 1.0, 4: 3.0, 5: 4.0, 6: 8.0, 7: 7.0, 8: 6.0}  # of a step


def scripted(**settings):
    return {"script": {"train/watched": SCORES.__getitem__}, **settings}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_last_few_stay_and_a_resume_is_exact(fit, tmp_path):
    _, whole = fit()
    fit(KeepCheckpoints(tmp_path, every_n_steps=2, keep=3))
    assert names(tmp_path) == ["step=4.ckpt", "step=6.ckpt", "step=8.ckpt"]
    (tmp_path / "step=6.ckpt").rename(tmp_path / "six")
    again = KeepCheckpoints(tmp_path, every_n_steps=2, keep=3)
    _, resumed = fit(again, ckpt_path=tmp_path / "step=4.ckpt")
    assert torch.equal(flat(resumed), flat(whole))
    torch.load(tmp_path / "step=6.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("mode", "best", "score"),
    # Means over two steps: 7, 2, 6, 6.5.
    [("min", 4, 2.0), ("max", 2, 7.0)],
)
def test_the_best_stays_by_the_mean_since_the_one_before(fit, tmp_path, mode, best, score):
    keep = KeepCheckpoints(tmp_path, every_n_steps=2, keep=1, best="train/watched", mode=mode)
    fit(keep, module=scripted())
    assert names(tmp_path) == ["best.ckpt", f"step={best}.ckpt", "step=8.ckpt"]
    assert os.readlink(tmp_path / "best.ckpt") == f"step={best}.ckpt"
    assert (keep.best_step, keep.best_score) == (best, score)
    assert torch.load(tmp_path / "best.ckpt")["global_step"] == best
    assert newest_whole(tmp_path)[0] == tmp_path / "step=8.ckpt"


@pytest.mark.parametrize("stopped", [2, 3, 4, 5, 6, 7])
def test_a_resumed_run_keeps_what_the_whole_one_would(fit, tmp_path, stopped):
    """At an odd step GracefulStop saves in the middle of a mean."""

    class Stop(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == stopped - 1:
                os.kill(os.getpid(), 2)

    def checkpoints(folder):
        return KeepCheckpoints(folder, every_n_steps=2, keep=1, best="train/watched")

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(checkpoints(whole), module=scripted())
    fit(Stop(), checkpoints(broken), GracefulStop(broken, ""), module=scripted())
    newest, _ = newest_whole(broken)
    assert newest is not None and newest.name == f"step={stopped}.ckpt"
    (broken / ".step=9.ckpt.partial").touch()
    last = checkpoints(broken)
    fit(last, GracefulStop(broken, ""), module=scripted(), ckpt_path=newest)
    assert names(broken) == names(whole) and last.best_score == 2.0
    assert os.readlink(broken / "best.ckpt") == os.readlink(whole / "best.ckpt")


def test_the_older_one_goes_only_when_the_new_one_is_whole(fit, tmp_path, monkeypatch):
    """The disk is full from step 4 on."""

    class Fill(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:
                (tmp_path / ".step=4.ckpt.partial").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device"):
        fit(Fill(), KeepCheckpoints(tmp_path, every_n_steps=2, keep=1))
    assert names(tmp_path) == ["step=2.ckpt"] and problem(tmp_path / "step=2.ckpt") is None


def test_a_mark_of_a_run_whose_checkpoints_were_broken_goes(fit, tmp_path):
    (tmp_path / "best.ckpt").symlink_to("step=4.ckpt")
    write_whole({}, tmp_path / "step=40.ckpt")
    fit(KeepCheckpoints(tmp_path, every_n_steps=5, keep=1), max_steps=5)
    assert names(tmp_path) == ["step=40.ckpt", "step=5.ckpt"]


def test_somebody_is_told_after_each_whole_one(fit, tmp_path):
    seen: list[list[str]] = []
    keep = KeepCheckpoints(tmp_path, 3, keep=1, after_save=lambda: seen.append(names(tmp_path)))
    fit(keep)
    assert seen == [["step=3.ckpt"], ["step=6.ckpt"]]


def test_a_loss_that_nobody_logs_ends_the_run_at_once(fit, tmp_path):
    keep = KeepCheckpoints(tmp_path, every_n_steps=2, best="train/ttal")
    with pytest.raises(ConfigError, match=r"'train/ttal', which is not logged.*train/total"):
        fit(keep)
    assert names(tmp_path) == []


def test_another_metric_may_come_later(fit, tmp_path, caplog):
    class Harm(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step in (3, 5):
                pl_module.log("harm/rate", 1.0 / trainer.global_step, batch_size=1)

    keep = KeepCheckpoints(tmp_path, every_n_steps=2, keep=1, best="harm/rate")
    fit(Harm(), keep, max_steps=8)
    assert (keep.best_step, keep.best_score) == (6, pytest.approx(1 / 5))
    assert sum("is not compared" in line for line in caplog.messages) == 1  # at step 2


def test_a_value_that_is_no_number_is_never_the_best(fit, tmp_path):
    scores = {1: float("nan"), 2: 3.0, 3: float("nan")}
    keep = KeepCheckpoints(tmp_path, every_n_steps=1, keep=1, best="train/watched")
    fit(keep, max_steps=3, module={"script": {"train/watched": scores.__getitem__}})
    assert keep.best_step == 2


@pytest.mark.parametrize("settings", [{"keep": 0}, {"keep": True}, {"mode": "best"}])
def test_settings_that_make_no_sense(tmp_path, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        KeepCheckpoints(tmp_path, **settings)
