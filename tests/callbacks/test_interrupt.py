"""Ctrl-C and SIGTERM: the step is finished, the checkpoint resumes exactly, handlers come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from lightning import Callback

from unlearning.callbacks import interrupt
from unlearning.callbacks.guard import CollapseGuard
from unlearning.callbacks.interrupt import GracefulStop
from unlearning.checkpoints import newest_whole
from unlearning.errors import ConfigError

from .conftest import flat

HANDLERS = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


class Kill(Callback):
    """Sends signals to this process before a batch."""

    def __init__(self, batch, number=signal.SIGINT, times=1):
        self.batch, self.number, self.times, self.started = batch, number, times, 0

    def on_train_batch_start(self, *_):
        self.started += 1
        if self.started == self.batch:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _handlers_come_back():
    yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == HANDLERS


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGINT, 5), (signal.SIGTERM, 2)],
)
def test_the_rest_of_the_run_is_bit_for_bit_the_same(fit, tmp_path, capfd, number, step):
    """An epoch has 3 batches: the signal comes within one and at the end of one."""
    _, whole = fit()
    stop = GracefulStop(tmp_path / "run", "unlearn resume=run")
    trainer, _ = fit(Kill(step, number), stop)
    assert stop.interrupted and trainer.global_step == step
    assert stop.signal is number  # by which the exit code is chosen
    saved = tmp_path / f"run/step={step}.ckpt"
    said = capfd.readouterr()
    (line,) = said.out.splitlines()
    assert f"step {step};" in line and str(saved) in line
    assert line.endswith("Resume: unlearn resume=run")
    assert ("Once more" in said.err) == (number == signal.SIGINT)
    assert os.listdir(tmp_path / "run") == [saved.name]
    assert newest_whole(tmp_path / "run") == (saved, []) and stop.path == saved

    torch.load(saved, weights_only=True)
    again = GracefulStop(tmp_path / "run", "")
    trainer, resumed = fit(again, ckpt_path=saved)
    assert trainer.global_step == 8 and not again.interrupted and again.signal is None
    assert torch.equal(flat(resumed), flat(whole))


@pytest.mark.parametrize(("batch", "step"), [(3, 2), (4, 2)])
def test_accumulated_gradients_are_not_lost(fit, tmp_path, batch, step):
    _, whole = fit(accumulate_grad_batches=2)
    trainer, _ = fit(Kill(batch), GracefulStop(tmp_path, ""), accumulate_grad_batches=2)
    assert trainer.global_step == step
    _, resumed = fit(ckpt_path=tmp_path / "step=2.ckpt", accumulate_grad_batches=2)
    assert torch.equal(flat(resumed), flat(whole))


def test_a_second_ctrl_c_stops_at_once(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(interrupt, "ONE_SIGNAL", 0.0)
    stop = GracefulStop(tmp_path, "")
    with pytest.raises(SystemExit):  # what Lightning makes of a KeyboardInterrupt
        fit(Kill(3, times=2), stop)
    assert not stop.interrupted and os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_that_comes_several_times_is_one(fit, tmp_path, monkeypatch, number):
    """A terminal sends Ctrl-C to a launcher and to its ranks; schedulers repeat SIGTERM."""
    if number == signal.SIGTERM:
        monkeypatch.setattr(interrupt, "ONE_SIGNAL", 0.0)  # however late
    stop = GracefulStop(tmp_path, "")
    trainer, _ = fit(Kill(3, number, times=4), stop)
    assert stop.signal is number and trainer.global_step == 3
    assert os.listdir(tmp_path) == ["step=3.ckpt"]


def test_an_error_in_training_puts_the_handlers_back(fit, tmp_path):
    class Fail(Callback):
        def on_train_batch_end(self, *_):
            assert signal.getsignal(signal.SIGINT) not in HANDLERS
            raise RuntimeError("out of memory")

    class Look(Callback):
        def on_exception(self, *_):
            self.found = signal.getsignal(signal.SIGINT)

    look = Look()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(Fail(), GracefulStop(tmp_path, ""), look)
    assert look.found == HANDLERS[0]  # before Lightning, which puts back its own, comes to it


def test_a_signal_after_the_last_step_is_not_swallowed(fit, tmp_path):
    class Late(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.global_step == 6:
                os.kill(os.getpid(), signal.SIGINT)

    stop = GracefulStop(tmp_path, "")
    _, module = fit(Late(), stop, max_steps=6)
    assert stop.interrupted
    trainer, resumed = fit(ckpt_path=tmp_path / "step=6.ckpt", max_steps=6)
    assert trainer.global_step == 6 and torch.equal(flat(resumed), flat(module))


def test_an_undisturbed_run_writes_and_says_nothing(fit, tmp_path, capfd):
    stop = GracefulStop(tmp_path / "run", "")
    fit(stop)
    assert not stop.interrupted and not (tmp_path / "run").exists()
    assert capfd.readouterr().out == ""


def test_outside_the_main_thread_it_does_nothing(fit, tmp_path):
    stop, done = GracefulStop(tmp_path, ""), []
    thread = threading.Thread(target=lambda: done.append(fit(stop)[0].global_step))
    thread.start()
    thread.join()
    assert done == [8] and not stop.interrupted


def test_what_has_a_state_has_to_come_before(fit, tmp_path):
    with pytest.raises(ConfigError, match="CollapseGuard comes after GracefulStop"):
        fit(GracefulStop(tmp_path, ""), CollapseGuard())
    fit(CollapseGuard(), GracefulStop(tmp_path, ""), max_steps=1)
