"""Whole runs on two processes, through the command line: the same update, stops and resumes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Forked, run
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]

TINY = [
    "experiment=demo",
    "model.base.vocab_size=400",
    "model.base.architecture={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4,"
    " ffn_dim: 64, max_position_embeddings: 160}",
    "model.base.max_steps=3",
    "model.base.training.warmup_steps=0",
    "classifier.train.max_steps=3",
    "classifier.train.warmup_steps=0",
    "unlearn.max_steps=12",
    "unlearn.learning_rate=1e-3",
    "evaluation.max_new_tokens=6",
    "evaluation.resamples=50",
    *(
        f"evaluation.prompt_sets.{name}.limit=5"
        for name in ("harmful_train", "harmful_heldout", "retain_heldout", "related")
    ),
    # Three prompts on two ranks: the second has one; fewer prompts than ranks: it has none.
    "callbacks.harm={every_n_steps: 4, prompts: 3}",
    "callbacks.samples={every_n_steps: 6, prompts: 1}",
    "callbacks.checkpoint.every_n_steps=5",
]
ONE = ["unlearn.batch_size=8", "unlearn.retain_batch_size=8"]
TWO = ["unlearn.batch_size=4", "unlearn.retain_batch_size=4", "trainer=ddp", "trainer.devices=2",
       "trainer.accelerator=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def environment(root) -> dict[str, str]:
    # One thread each: sums in another order differ in their last bits.
    return {**os.environ, "UNLEARNING_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "unlearning", *words]


def unlearn(root: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    return run(command(*words), root, environment)


@pytest.fixture(scope="module")
def one(root, environment) -> Path:
    done = unlearn(root, environment, *TINY, *ONE, "hydra.run.dir=one")
    assert done.returncode == 0, done.stderr
    return root / "one"


@pytest.fixture(scope="module")
def two(root, environment) -> Path:
    done = unlearn(root, environment, *TINY, *TWO, "hydra.run.dir=two")
    assert done.returncode == 0, done.stderr
    return root / "two"


def losses(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict:
    return load_file(folder / "model/model.safetensors")


def samples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_two_processes_make_the_update_of_one(one, two):
    assert len(losses(one)) == len(losses(two)) == 12
    for first, second in zip(losses(one), losses(two), strict=True):
        for name in ("forget", "mismatch", "retain", "total", "learning_rate"):
            assert second[name] == pytest.approx(first[name], rel=1e-5, abs=2e-6), name
    first, second = weights(one), weights(two)
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 2e-5


def test_and_say_and_score_the_same(one, two):
    assert samples(one) == samples(two)
    first, second = (json.loads((f / "metrics.json").read_text()) for f in (one, two))
    assert first["before"] == second["before"]
    assert first["after"].keys() == second["after"].keys()
    for key, value in first["after"]["harmful_heldout/harmful_rate"].items():
        assert second["after"]["harmful_heldout/harmful_rate"][key] == pytest.approx(value)


def test_each_rank_has_its_log_and_only_the_first_one_speaks(two):
    assert (two / "run.log").is_file() and (two / "logs/rank_1.log").is_file()
    assert sorted(path.name for path in (two / "logs").iterdir()) == ["rank_1.log"]


def test_what_does_not_depend_on_devices_is_made_once(one, two, root):
    for stage in ("base", "classifier", "answers"):
        kept = [path for path in (root / "cache" / stage).iterdir() if path.is_dir()]
        assert len(kept) == 1, stage


def _until(condition, process, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too soon"
        assert time.monotonic() < deadline, "the run never came so far"
        time.sleep(0.01)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_bit_for_bit(stop, two, root, environment):
    folder = root / f"stopped_{stop.name}"
    process = Forked(command(*TINY, *TWO, f"hydra.run.dir={folder.name}"), root, environment)
    _until(lambda: any((folder / "checkpoints").glob("step=*.ckpt")), process)
    process.send_signal(stop)
    process.wait()
    assert process.returncode == (143 if stop == signal.SIGTERM else -9)
    assert not (folder / "metrics.json").exists()
    # The ranks of a killed parent are gone before the folder is free.
    deadline = time.monotonic() + 300
    while (done := unlearn(root, environment, f"resume={folder.name}")).returncode == 2:
        assert "Another run works" in done.stderr and time.monotonic() < deadline
    assert done.returncode == 0, done.stderr
    assert (folder / "losses.csv").read_text() == (two / "losses.csv").read_text()
    for name, value in weights(two).items():
        assert value.equal(weights(folder)[name]), name
    assert samples(folder) == samples(two)


def test_a_rank_that_dies_is_named_and_ends_the_run(root, environment):
    endless = command(*TINY, *TWO, "unlearn.max_steps=100000", "hydra.run.dir=dies")
    process = Forked(endless, root, environment)
    _until(lambda: any((root / "dies/checkpoints").glob("step=*.ckpt")), process)
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)],
                           capture_output=True, text=True)  # fmt: skip
    ranks = [int(word) for word in found.stdout.split()]
    second = next(rank for rank in ranks if b"RANK=1" in environment_of(rank))
    os.kill(second, signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode == 1 and "rank 1 of 2 died (killed by SIGKILL)" in told


def environment_of(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
