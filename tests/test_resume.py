"""A run that is resumed from any step ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from unlearning.methods.loku import LoKU
from unlearning.methods.on_policy import OnPolicy
from unlearning.methods.pdu import PDU
from unlearning.methods.rerouting import Rerouting
from unlearning.methods.rmu import RMU_TERMS
from unlearning.module import UnlearningModule

pytestmark = [
    # What was saved by a callback is of no interest here, only weights, optimizer and stream.
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]
STEPS = 8  # three batches an epoch: steps 3 and 6 end one
LORA = {"r": 2, "dropout": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "full, cached": {"reference": "cached"},
    "full, copy": {"reference": "copy", "schedule": "cosine", "warmup_steps": 2},
    "lora": {"lora": LORA, "learning_rate": 1e-3},
    "sam": {"rule": {"_target_": "unlearning.methods.sam.SAM", "rho": 0.1}},
    "rmu": {
        "terms": {name: {**term, "layer": 1} for name, term in RMU_TERMS.items()},
        "trained": ["blocks"],
    },
    # Fast enough that continuations sampled a step later would be others.
    "on policy": {
        "method": OnPolicy,
        "refresh_every": 3,
        "max_new_tokens": 6,
        "learning_rate": 1e-2,
    },
    "dropout": {"lora": {"r": 2, "dropout": 0.3}, "keep_dropout": True, "learning_rate": 1e-3},
    "gru": {"rule": {"_target_": "unlearning.methods.gru.GRU", "gamma": 0.3}},
    # After an epoch the multiplier moves by much at every step.
    "pdu": {"method": PDU, "dual_warmup_epochs": 1, "dual_step": 50.0, "measured_batches": 4},
    "loku": {"method": LoKU, "lora": LORA, "learning_rate": 1e-3},
    "rerouting": {"method": Rerouting, "layers": (0, 1), "learning_rate": 1e-3},
}


class Seen(Callback):
    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.batches.append(batch.index)


class Leave(Callback):
    """Ends a run between two steps, as a signal handler may ask for."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        trainer.should_stop = trainer.global_step >= self.step


class Interrupt(Callback):
    """Ctrl-C within a step: its batch is drawn, its weights are not moved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/interrupted.ckpt")
            raise InterruptedError


@pytest.fixture
def module_of(make_model):
    def build(**settings: Any) -> UnlearningModule:
        torch.manual_seed(11)  # of the adapter, whose start a checkpoint holds too
        kind = settings.pop("method", UnlearningModule)
        return kind(make_model(), **{"learning_rate": 1e-4, **settings})

    return build


def every_step(folder, **settings) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=1, save_top_k=-1, **settings
    )


def assert_same_weights(first: UnlearningModule, second: UnlearningModule) -> None:
    ours, theirs = first.policy.state_dict(), second.policy.state_dict()
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, different


def assert_goes_on(checkpoint: Path, whole: UnlearningModule | Path) -> None:
    """What is left to do after this checkpoint moves the weights to those at the end."""
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    if isinstance(whole, Path):
        ours = torch.load(whole, weights_only=True)["state_dict"]
    else:
        ours = whole.state_dict()
    assert saved.keys() == ours.keys()
    assert max((saved[name] - ours[name]).abs().max() for name in ours) > 1e-6


def whole_run(module_of, make_data, quiet_trainer, folder, accumulated=1, **settings):
    module, seen = module_of(**settings), Seen()
    trainer = quiet_trainer(
        max_steps=STEPS,
        accumulate_grad_batches=accumulated,
        enable_checkpointing=True,
        callbacks=[seen, every_step(folder)],
    )
    trainer.fit(module, make_data(batch_size=2))
    return module, seen.batches


@pytest.mark.parametrize(
    ("case", "accumulated"),
    [("full, copy", 1), ("sam", 1), ("rmu", 1), ("on policy", 2)]
    + [("gru", 2), ("pdu", 1), ("pdu", 2), ("loku", 1), ("rerouting", 1)]
    + [(case, n) for case in ("full, cached", "lora", "dropout") for n in (1, 2)],
)
def test_resumed_at_every_step(module_of, make_data, quiet_trainer, tmp_path, case, accumulated):
    settings = CASES[case]
    whole, batches = whole_run(
        module_of, make_data, quiet_trainer, tmp_path, accumulated, **settings
    )
    assert batches == list(range(STEPS * accumulated))
    for step in range(1, STEPS):
        resumed, seen = module_of(**settings), Seen()
        trainer = quiet_trainer(
            max_steps=STEPS, accumulate_grad_batches=accumulated, callbacks=[seen]
        )
        path = tmp_path / f"step={step}.ckpt"
        trainer.fit(resumed, make_data(batch_size=2), ckpt_path=path, weights_only=True)
        assert trainer.global_step == STEPS
        assert seen.batches == batches[step * accumulated :]
        assert_goes_on(path, tmp_path / f"step={STEPS}.ckpt")  # LoKU's adapter is merged by now
        assert_same_weights(resumed, whole)


def test_resumed_twice_and_by_epochs(module_of, make_data, quiet_trainer, tmp_path):
    """Once more from a resumed run's own checkpoint; the end is given in epochs."""
    data, module = make_data(), module_of()
    quiet_trainer(max_epochs=3).fit(module, data)
    callbacks = [every_step(tmp_path / "a"), Leave(2)]
    first = quiet_trainer(max_epochs=3, enable_checkpointing=True, callbacks=callbacks)
    first.fit(module_of(), make_data())
    callbacks = [every_step(tmp_path / "b"), Leave(7)]
    second = quiet_trainer(max_epochs=3, enable_checkpointing=True, callbacks=callbacks)
    second.fit(module_of(), make_data(), ckpt_path=tmp_path / "a" / "step=2.ckpt")
    third, last = quiet_trainer(max_epochs=3), module_of()
    third.fit(last, make_data(), ckpt_path=tmp_path / "b" / "step=7.ckpt")
    assert third.global_step == 9
    assert_goes_on(tmp_path / "b" / "step=7.ckpt", module)
    assert_same_weights(last, module)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_stopped_between_steps_and_saved_afterwards(
    module_of, make_data, quiet_trainer, tmp_path, step
):
    whole = module_of()
    quiet_trainer(max_steps=STEPS).fit(whole, make_data())
    trainer = quiet_trainer(max_steps=STEPS, callbacks=[Leave(step)])
    trainer.fit(module_of(), make_data())
    assert trainer.global_step == step
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    assert_goes_on(tmp_path / "stopped.ckpt", whole)
    resumed, again = module_of(), quiet_trainer(max_steps=STEPS)
    again.fit(resumed, make_data(), ckpt_path=tmp_path / "stopped.ckpt")
    assert again.global_step == STEPS
    assert_same_weights(resumed, whole)


@pytest.mark.parametrize("case", ["full, cached", "dropout"])
@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_interrupted_within_a_step(module_of, make_data, quiet_trainer, tmp_path, step, case):
    """The batch that was not finished is drawn again, and so are its masks."""

    def build() -> UnlearningModule:
        return module_of(**CASES[case])

    whole = build()
    quiet_trainer(max_steps=STEPS).fit(whole, make_data())
    trainer = quiet_trainer(max_steps=STEPS, callbacks=[Interrupt(step)])
    with pytest.raises(InterruptedError):
        trainer.fit(build(), make_data())
    resumed, seen = build(), Seen()
    again = quiet_trainer(max_steps=STEPS, callbacks=[seen])
    again.fit(resumed, make_data(), ckpt_path=tmp_path / "interrupted.ckpt")
    assert seen.batches == list(range(step, STEPS))
    assert again.global_step == STEPS
    assert_goes_on(tmp_path / "interrupted.ckpt", whole)
    assert_same_weights(resumed, whole)


def test_dropout_depends_on_seed_and_batch_alone(module_of, make_data, quiet_trainer):
    """Not on what else is drawn in between; another seed gives other masks."""

    class Draw(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            torch.rand(3)

    found = []
    for seed, callbacks in ((1, []), (1, [Draw()]), (2, [])):
        module = module_of(**CASES["dropout"])
        torch.manual_seed(seed)
        quiet_trainer(max_steps=4, callbacks=callbacks).fit(module, make_data())
        found.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_module_that_is_trained_again_draws_again(module_of, make_data, quiet_trainer):
    """The seed of a checkpoint is that of the resumed training alone."""
    module, seeds = module_of(**CASES["dropout"]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        quiet_trainer(max_steps=1).fit(module, make_data())
        seeds.append(module._noise_seed)
    assert seeds == [1, 2]
