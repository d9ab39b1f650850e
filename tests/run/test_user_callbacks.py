"""`+callbacks.mine={_target_: ...}` runs, is saved with the run, and is checked before it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from lightning import Callback

from run.killed_runs import OVERRIDES
from unlearning.data import StoryDataModule
from unlearning.errors import ConfigError
from unlearning.run.output.store import Store
from unlearning.run.pipeline import run
from unlearning.run.stages.callbacks import callbacks
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.tracking.trackers import Tracking

from .small import checked

MINE = f"{__name__}.Recorder"


class Recorder(Callback):
    """Writes each step's number and how many it has seen, over all parts of a run."""

    def __init__(self, file: str, preempted_at: int | None = None) -> None:
        self.file, self.preempted_at, self.seen = Path(file), preempted_at, 0

    def on_train_batch_end(self, trainer, *_):
        self.seen += 1
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps([trainer.global_step, self.seen]), file=file)
        if trainer.global_step == self.preempted_at and self.seen == self.preempted_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class NotOne:
    """Takes nothing, is nothing."""


def recorded(file: Path) -> list[list[int]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_it_runs_and_is_resumed_with_its_state(compose_config, tmp_path):
    file = tmp_path / "steps.jsonl"
    config = compose_config(
        *OVERRIDES, "unlearn.max_steps=5", "unlearn.warmup_steps=0",
        "callbacks.samples=null", "callbacks.harm=null",
        f"+callbacks.mine={{_target_: {MINE}, file: {file}, preempted_at: 2}}",
        "callbacks.checkpoint.every_n_steps=100", f"cache_dir={tmp_path}/cache",
    )  # fmt: skip
    assert run(config, tmp_path / "run") is None
    assert recorded(file) == [[1, 1], [2, 2]]
    assert run(config, tmp_path / "run", resume=True) is not None
    assert recorded(file) == [[step, step] for step in range(1, 6)]


def test_it_stands_before_the_checkpoints(compose_config, tmp_path):
    config = compose_config(
        "experiment=demo", f"+callbacks.mine={{_target_: {MINE}, file: {tmp_path}/x}}",
        "+callbacks.off=null",
    )  # fmt: skip
    found = callbacks(config, tmp_path, None, None, None)
    assert list(found) == ["guard", "losses", "mine", "checkpoint", "interrupt"]
    assert isinstance(found["mine"], Recorder)


def test_fine_tuning_has_its_own(compose_config, opt_folder, tmp_path):
    file = tmp_path / "steps.jsonl"
    common = [
        "experiment=copyright", f"model.name_or_path={opt_folder}", "data.max_length=64",
        "finetune.context_length=64", "finetune.max_steps=2",
    ]  # fmt: skip

    def finetuned(*words: str) -> bool:
        config = compose_config(*common, *words)
        store, data = Store(tmp_path / "cache"), {"forget": StoryDataModule()}
        tracking = Tracking(config, tmp_path)
        return finetuned_model(config, store, str(opt_folder), data, tracking)[2]

    mine = f"+finetune.callbacks.mine={{_target_: {MINE}, file: {file}}}"
    assert not finetuned(mine)
    assert recorded(file) == [[1, 1], [2, 2]]
    assert finetuned(mine)  # kept: nothing runs
    assert not finetuned()  # another recipe
    assert recorded(file) == [[1, 1], [2, 2]]


def test_validation_counts_them(compose_config, tmp_path):
    config = compose_config(
        "experiment=copyright_demo", f"+callbacks.a={{_target_: {MINE}, file: {tmp_path}/x}}",
        "+callbacks.b={_target_: lightning.pytorch.callbacks.Timer}",
        f"+finetune.callbacks.c={{_target_: {MINE}, file: {tmp_path}/x}}",
    )  # fmt: skip
    lines = checked(config)
    assert "callbacks: 2 of your own (a, b)" in lines
    assert "finetune.callbacks: 1 of your own (c)" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [f"+callbacks.mine={{_target_: {__name__}.NotOne}}"],
            "Callback. It was not called",
        ),
        (
            ["+callbacks.mine={file: x}"],
            r"callbacks\.mine\._target_ is missing, the import path",
        ),
        (["+callbacks.mine=3"], r"callbacks\.mine=3 must be a mapping with _target_"),
        ([f"+callbacks.mine={{_target_: {__name__}.Recordr}}"], "did you mean .*Recorder"),
        (
            [f"+callbacks.mine={{_target_: {MINE}, fiel: x}}"],
            "takes no 'fiel'.*mean 'file'",
        ),
        (
            [f"+callbacks.mine={{_target_: {MINE}}}"],
            "missing 1 required .*'file'",
        ),
        ([f"+callbacks.losses={{_target_: {MINE}, file: x}}"], "'losses' is taken"),
        (
            [f"+callbacks.{name}={{_target_: {MINE}, file: x}}" for name in ("a", "b")],
            "do not go together: Found more than one stateful callback",
        ),
        (
            ["+callbacks.a={_target_: lightning.pytorch.callbacks.ModelCheckpoint}"],
            "enable_checkpointing=False",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_run(compose_config, words, message):
    with pytest.raises(ConfigError, match=message):
        checked(compose_config("experiment=demo", *words))
