"""The guard: which limit, which step, which weights."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch
from lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from unlearning.callbacks.guard import CollapseGuard
from unlearning.errors import ConfigError

from .conftest import SaveAt, Weights, flat


def test_a_run_in_its_budget_is_left_alone(fit):
    guard = CollapseGuard(retain_kl=1e3, retain_perplexity=1e3, forget_nll=1e3, every_n_steps=1)
    _, guarded = fit(guard)
    _, free = fit()
    assert torch.equal(flat(guarded), flat(free))
    assert guard.reason is None and guard.events == []


def test_a_diverging_run_ends_with_weights_whose_kl_was_in_the_budget(fit):
    """At this learning rate the real KL is 0, then small, then large."""
    weights, seen = Weights(), Seen("train/retain")
    guard = CollapseGuard(retain_kl=0.3, every_n_steps=1, window=1)
    trainer, module = fit(guard, weights, seen, max_steps=40, module={"learning_rate": 0.003})
    (event,) = guard.events
    broke = event["step"]
    assert 2 < broke < 40 and trainer.global_step == broke
    # The KL that step n reports is that of the weights after n - 1 steps.
    assert seen.values[broke] > 0.3 and event["value"] == pytest.approx(seen.values[broke])
    assert all(seen.values[step] <= 0.3 for step in range(1, broke))
    assert event["restored_step"] == broke - 2
    assert torch.equal(flat(module), weights.after[broke - 2])
    assert not torch.equal(flat(module), weights.after[broke - 1])


class Seen(Callback):
    """What was logged in each step."""

    def __init__(self, name):
        self.name, self.values = name, {}

    def on_train_batch_end(self, trainer, *_):
        self.values[trainer.global_step] = float(trainer.callback_metrics[self.name])


@pytest.mark.parametrize(
    ("window", "every", "breaks_at", "restored"),
    [(1, 1, 7, 5), (3, 1, 8, 6), (1, 5, 10, 4), (3, 5, 10, 4), (20, 4, 16, 11)],
)
def test_forget_nll_is_a_mean_over_the_window(fit, window, every, breaks_at, restored):
    """The NLL of step n is n: the mean over w steps at step n is n - (w - 1) / 2."""
    guard = CollapseGuard(forget_nll=6.5, window=window, every_n_steps=every)
    script = {"train/nll_forget": float}
    trainer, _ = fit(guard, max_steps=20, module={"script": script})
    (event,) = guard.events
    mean = sum(range(max(1, breaks_at - window + 1), breaks_at + 1)) / min(window, breaks_at)
    expected = {
        "step": breaks_at,
        "limit": "forget_nll",
        "value": pytest.approx(mean),
        "budget": 6.5,
        "action": "stop",
        "restored_step": restored,
    }
    assert event == expected and mean > 6.5
    assert trainer.global_step == breaks_at


def test_perplexity_is_relative_to_the_first_check(fit):
    """NLL 2.0 at the first check, ln 3 more at step 6: three times the perplexity."""
    script = {"train/nll_retain": lambda step: 2.0 + (math.log(3) if step == 6 else 0.0)}
    guard = CollapseGuard(retain_perplexity=2.9, window=1, every_n_steps=2)
    fit(guard, module={"script": script})
    (event,) = guard.events
    assert event["step"] == 6 and event["value"] == pytest.approx(3, rel=1e-5)
    roomy = CollapseGuard(retain_perplexity=3.1, window=1, every_n_steps=2)
    fit(roomy, module={"script": script})
    assert roomy.events == []


def test_it_says_which_limit_broke(fit, caplog):
    script = {"train/nll_forget": lambda step: 50.0, "train/retain": lambda step: 9.0}
    guard = CollapseGuard(retain_kl=0.5, forget_nll=40, every_n_steps=2)
    with caplog.at_level(logging.WARNING, "unlearning"):
        fit(guard, module={"script": script})
    assert guard.reason in caplog.messages
    for part in ("step 2", "KL", "9", "0.5", "NLL", "50", "40", "training ends"):
        assert part in guard.reason
    assert [event["limit"] for event in guard.events] == ["retain_kl", "forget_nll"]
    json.dumps(guard.events, allow_nan=False)


@pytest.mark.parametrize("action", ["stop", "lower"])
@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_loss_that_is_not_finite_leaves_no_trace(fit, action, step):
    """Checks at 3 and 6, and at the end for what comes after."""
    weights = Weights()
    guard = CollapseGuard(action=action, every_n_steps=3)
    trainer, module = fit(guard, weights, module={"loss": {step: math.nan}})
    assert flat(module).isfinite().all()
    found = {1: 3, 4: 6, 6: 6, 8: 8}[step]
    event = guard.events[0]
    assert (event["step"], event["limit"], event["value"]) == (found, "finite", None)
    good = event["restored_step"]
    assert good < step and weights.after[good].isfinite().all()
    if action == "stop" or found == 8:
        assert trainer.global_step == found and torch.equal(flat(module), weights.after[good])
        assert event["action"] == "stop"
    else:
        assert trainer.global_step == 8 and len(guard.events) == 1
        assert module.objective.terms["forget"].weight == 0.25
        assert not torch.equal(flat(module), weights.after[good])


def test_without_the_guard_that_loss_ruins_the_weights(fit):
    _, module = fit(module={"loss": {4: math.nan}})
    assert not flat(module).isfinite().all()


@pytest.mark.parametrize("step", [4, 8])
def test_a_gradient_that_is_not_finite_is_found_too(fit, step):
    """The loss of the step is finite; the check of that very step must not keep its result."""

    class Spoil(Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step + 1 == step:
                next(pl_module.parameters()).grad.fill_(math.nan)

    guard = CollapseGuard(every_n_steps=4)
    _, module = fit(guard, Spoil())
    assert flat(module).isfinite().all()
    assert guard.events[0]["limit"] == "finite" and guard.events[0]["restored_step"] == step - 1


def test_lowering_puts_back_weights_and_optimizer_and_goes_on(fit):
    class Optimizer(Callback):
        def __init__(self):
            self.updates = {}

        def on_train_batch_end(self, trainer, *_):
            state = trainer.optimizers[0].state.values()
            self.updates[trainer.global_step] = {int(s["step"]) for s in state}

    script = {"train/nll_forget": lambda step: 99.0 if step == 4 else 1.0}
    guard, optimizer, weights = (
        CollapseGuard(forget_nll=10, action="lower", factor=0.25, every_n_steps=2, window=1),
        Optimizer(),
        Weights(),
    )
    trainer, module = fit(guard, optimizer, weights, module={"script": script})
    assert trainer.global_step == 8
    assert [(e["step"], e["action"], e["restored_step"]) for e in guard.events] == [(4, "lower", 1)]
    assert module.objective.terms["forget"].weight == 0.125 and guard.weights == {"forget": 0.125}
    assert module.objective.terms["mismatch"].weight == module.objective.terms["retain"].weight == 1
    # After step 4 the state of step 1 is back, and moves on from there.
    assert torch.equal(weights.after[4], weights.after[1])
    assert optimizer.updates == {1: {1}, 2: {2}, 3: {3}, 4: {1}, 5: {2}, 6: {3}, 7: {4}, 8: {5}}


@pytest.mark.parametrize(
    ("restored", "steps", "kept"),
    [
        ([], 20, 20),
        ([(10, 4)], 10, 4),  # stopped
        ([(10, 4)], 20, 14),  # lowered, and ten steps more
        # The second goes back to what was kept at step 24: 4 updates and those of 14 steps.
        ([(10, 4), (30, 24)], 30, 18),
        ([(10, 0), (20, 0)], 20, 0),
        ([(10, None), (20, 14)], 25, 19),  # one that might pass
    ],
)
def test_updates_that_were_undone_do_not_count(restored, steps, kept):
    guard = CollapseGuard()
    guard.events = [{"step": step, "restored_step": back} for step, back in restored]
    assert guard.kept_steps(steps) == kept


def test_a_run_whose_losses_are_all_nan_has_no_step_in_its_weights(fit):
    guard = CollapseGuard(every_n_steps=2)
    trainer, _ = fit(guard, module={"loss": {step: math.nan for step in range(1, 20)}})
    assert trainer.global_step == 2 and guard.kept_steps(trainer.global_step) == 0


def test_the_kept_weights_survive_what_is_done_with_them(fit):
    """The optimizer must not train on in the copy: twice back to the same state."""
    script = {"train/nll_forget": lambda step: 99.0 if step in (4, 6) else 1.0}
    guard = CollapseGuard(forget_nll=10, action="lower", every_n_steps=2, window=1)
    weights = Weights()
    _, module = fit(guard, weights, module={"script": script})
    assert [e["restored_step"] for e in guard.events] == [1, 1]
    assert torch.equal(weights.after[4], weights.after[1])
    assert torch.equal(weights.after[6], weights.after[1])
    assert module.objective.terms["forget"].weight == 0.125


def test_lowering_has_an_end(fit):
    guard = CollapseGuard(forget_nll=10, action="lower", every_n_steps=1, window=1, max_lowerings=2)
    trainer, _ = fit(guard, module={"script": {"train/nll_forget": lambda step: 99.0}})
    assert [event["action"] for event in guard.events] == ["lower", "lower", "stop"]
    assert trainer.global_step == 3


def test_patience_is_for_limits_and_not_for_nan(fit):
    script = {"train/nll_forget": lambda step: 99.0 if step in (2, 5, 6, 7) else 1.0}
    guard = CollapseGuard(forget_nll=10, every_n_steps=1, window=1, patience=2)
    fit(guard, module={"script": script})
    found = [(event["step"], event["action"], event["restored_step"]) for event in guard.events]
    assert found == [(2, "wait", None), (5, "wait", None), (6, "wait", None), (7, "stop", 3)]
    patient = CollapseGuard(every_n_steps=1, patience=9)
    fit(patient, module={"loss": {2: math.inf}})
    assert [event["action"] for event in patient.events] == ["stop"]


@pytest.mark.parametrize("action", ["stop", "lower"])
@pytest.mark.parametrize(
    ("every", "ends", "waited", "restored"),
    [
        (2, {"max_steps": 6}, [], 3),  # the last step is one that is checked anyway
        (4, {"max_steps": 6}, [], 3),  # a check of the end alone
        (2, {"max_steps": -1, "max_epochs": 2}, [6], 3),  # whose last step is not foreseen
        (1, {"max_steps": 6}, [5], 3),
    ],
)
def test_a_breach_that_is_pending_at_the_end_counts(fit, action, every, ends, waited, restored):
    """Step 5 is the first above the limit, and with some patience nothing was done about it."""
    script = {"train/nll_forget": lambda step: 99.0 if step >= 5 else 1.0}
    guard, weights = (
        CollapseGuard(forget_nll=10, action=action, every_n_steps=every, window=1, patience=9),
        Weights(),
    )
    batches = {"limit_train_batches": 3}
    trainer, module = fit(guard, weights, **ends, **batches, module={"script": script})
    assert trainer.global_step == 6
    found = [(event["step"], event["action"], event["restored_step"]) for event in guard.events]
    assert found == [*((step, "wait", None) for step in waited), (6, "stop", restored)]
    assert guard.kept_steps(6) == restored and "training ends" in str(guard.reason)
    assert torch.equal(flat(module), weights.after[restored])


def test_a_breach_that_has_passed_by_the_end_is_none(fit):
    script = {"train/nll_forget": lambda step: 99.0 if step == 5 else 1.0}
    guard = CollapseGuard(forget_nll=10, every_n_steps=1, window=1, patience=9)
    fit(guard, max_steps=6, module={"script": script})
    assert [(event["step"], event["action"]) for event in guard.events] == [(5, "wait")]
    assert guard.reason is None and guard.kept_steps(6) == 6


def test_a_resumed_run_keeps_window_weights_and_events(fit, tmp_path):
    """The breach at 4 lowers; the check at 8 rests on steps 5 and 6, from before the resume."""
    values = [1, 1, 1, 40, 1, 30, 1, 1]
    settings = {"script": {"train/nll_forget": lambda step: float(values[step - 1])}}
    limits = {"forget_nll": 9, "action": "lower", "every_n_steps": 4, "window": 4}
    whole, path = CollapseGuard(**limits), tmp_path / "six.ckpt"
    _, expected = fit(whole, SaveAt(6, path), module=settings)
    assert [(event["step"], event["value"]) for event in whole.events] == [(4, 10.75)]

    torch.load(path, weights_only=True)
    rest = CollapseGuard(**limits)
    _, module = fit(rest, ckpt_path=path, module=settings)
    assert module.objective.terms["forget"].weight == 0.25 == whole.weights["forget"]
    assert rest.events == whole.events and rest.reason == whole.reason
    assert torch.equal(flat(module), flat(expected))

    # (1 + 30 + 1 + 1) / 4; steps 7 and 8 alone would say 1.
    tight = CollapseGuard(**{**limits, "forget_nll": 8.0})
    fit(tight, ckpt_path=path, module=settings)
    assert (tight.events[1]["step"], tight.events[1]["value"]) == (8, 8.25)


@pytest.mark.parametrize("action", ["stop", "lower"])
@pytest.mark.parametrize("broken", [4, 8])
def test_a_resumed_run_goes_back_to_the_same_weights(fit, tmp_path, action, broken):
    """Those after step 1, also where a loss that is not finite came before the checkpoint."""
    script = {"train/nll_forget": lambda step: 99.0 if step == 4 else 1.0}
    settings = {"script": script, "loss": {3: math.nan} if broken == 8 else {}}
    limits = {"forget_nll": 9, "every_n_steps": 2 if broken == 4 else 4, "window": 1}
    path, whole = tmp_path / "three.ckpt", CollapseGuard(**limits, action=action)
    _, expected = fit(whole, SaveAt(3, path), module=settings)
    rest = CollapseGuard(**limits, action=action)
    _, module = fit(rest, ckpt_path=path, module=settings)
    assert [e["restored_step"] for e in rest.events] == [{4: 1, 8: 0}[broken]]
    assert rest.events == whole.events and torch.equal(flat(module), flat(expected))


def test_a_resume_does_not_train_past_the_stop(fit, tmp_path):
    script = {"train/nll_forget": lambda step: 99.0 if step == 4 else 1.0}
    guard, path = CollapseGuard(forget_nll=9, every_n_steps=2, window=1), tmp_path / "four.ckpt"
    _, expected = fit(guard, SaveAt(4, path), module={"script": script})
    rest = CollapseGuard(forget_nll=9, every_n_steps=2, window=1)
    trainer, module = fit(rest, ckpt_path=path, module={"script": script})
    assert trainer.global_step == 4 and rest.reason == guard.reason
    assert torch.equal(flat(module), flat(expected))


def test_the_last_checkpoint_is_checked_before_it_is_saved(fit, tmp_path):
    """A run that is resumed from it makes no step, and would never look."""
    guard, path = CollapseGuard(every_n_steps=3), tmp_path / "eight.ckpt"
    _, expected = fit(guard, SaveAt(8, path), module={"loss": {8: math.nan}})
    rest = CollapseGuard(every_n_steps=3)
    _, module = fit(rest, ckpt_path=path)
    assert len(guard.events) == 1 and rest.events == guard.events
    assert flat(module).isfinite().all() and torch.equal(flat(module), flat(expected))


def test_accumulated_batches_count_as_one_step(fit):
    """The batches of a step report 0 and 20: their mean breaks 9, each 20 alone would break 19."""
    calls = iter(range(100))
    script = {"train/nll_forget": lambda step: 20.0 * (next(calls) % 2)}
    guard = CollapseGuard(forget_nll=9, every_n_steps=3, window=3)
    fit(guard, accumulate_grad_batches=2, module={"script": script})
    assert [(event["step"], event["value"]) for event in guard.events] == [(3, 10.0)]


def test_nothing_is_read_between_checks(fit):
    class NoReading(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert function is not torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    class Watched(CollapseGuard):
        checks = 0

        def _check(self, trainer):
            self.checks += 1
            return super()._check(trainer)

        def on_train_batch_end(self, *args):
            with NoReading():
                super().on_train_batch_end(*args)

    guard = Watched(retain_kl=1e3, forget_nll=1e3, every_n_steps=4)
    fit(guard, max_steps=10)
    assert guard.checks == 3  # after 4 and 8 steps, and at the end


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action": "pause"}, "'pause'"),
        ({"factor": 1.0}, "factor=1.0"),
        ({"every_n_steps": 0}, "every 0 steps"),
        ({"patience": -1}, "patience=-1"),
        ({"retain_kl": -0.1}, "retain_kl is -0.1"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        CollapseGuard(**settings)


def test_what_is_not_there_to_watch_or_lower_is_named(fit):
    mismatch_only = {
        "terms": {"mismatch": {"loss": "unlearning.losses.random_mismatch", "role": "mismatch"}}
    }
    with pytest.raises(ConfigError, match="kl_metric=train/<term>"):
        fit(CollapseGuard(retain_kl=1.0), module=mismatch_only)
    with pytest.raises(ConfigError, match="train/nll_forget is watched and was not logged"):
        fit(CollapseGuard(forget_nll=1.0), module=mismatch_only)
    with pytest.raises(ConfigError, match="role forget"):
        fit(CollapseGuard(action="lower"), module=mismatch_only)
    guard = CollapseGuard(retain_kl=1e-9, kl_metric="train/mismatch", every_n_steps=1)
    fit(guard, module=mismatch_only)
    assert guard.events[0]["limit"] == "retain_kl" and guard.events[0]["step"] == 1


def test_weights_that_are_broken_from_the_start_are_refused(fit):
    class Break(Callback):
        def on_fit_start(self, trainer, pl_module):
            with torch.no_grad():
                next(pl_module.parameters()).fill_(math.nan)

    with pytest.raises(ConfigError, match="not finite"):
        fit(CollapseGuard(), Break())
