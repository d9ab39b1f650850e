"""A run that is killed again and again, beside one that is left alone: `killed_runs.py <folder>
<seed>`.

The runs are forked from this process, which has imported everything and computed nothing, so that
each of their parts starts at once. What was done to them goes to standard output, a JSON object a
line; `tests/run/test_kill.py` reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from unlearning.checkpoints import by_step
from unlearning.run.config.overrides import config_folder
from unlearning.run.pipeline import run

STEPS = 40
OVERRIDES = (
    "experiment=demo",
    "model.base.vocab_size=400",
    "model.base.architecture={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4,"
    " ffn_dim: 64, max_position_embeddings: 160}",
    "model.base.max_steps=3",
    "model.base.training.warmup_steps=0",
    "classifier.train.max_steps=3",
    "classifier.train.warmup_steps=0",
    "data.mismatch_per_prompt=2",
    f"unlearn.max_steps={STEPS}",
    "unlearn.retain_batch_size=4",
    "unlearn.learning_rate=1e-3",
    "evaluation.max_new_tokens=6",
    "evaluation.resamples=50",
    *(f"evaluation.prompt_sets.{name}.limit=4" for name in (
        "harmful_train", "harmful_heldout", "retain_heldout", "related",
    )),
    "callbacks.harm={every_n_steps: 12, prompts: 4}",
    "callbacks.samples={every_n_steps: 5, prompts: 2}",
    "callbacks.checkpoint.every_n_steps=1",
)  # fmt: skip


class Part:
    """One process of a run, from its start or its last checkpoint on."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.started, self.born = time.monotonic(), time.time()
        self.status: int | None = None
        self.process = os.fork()
        if self.process == 0:
            _work(config, folder)

    def over(self) -> bool:
        if self.status is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if process else None
        return self.status is not None

    def wait(self, until: Callable[[], Any] = lambda: False) -> bool:
        """Whether it came to that; not if the process ended before."""
        while not until():
            if self.over():
                return False
            time.sleep(0.0002)
        return True

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        self.wait()


def _work(config: DictConfig, folder: Path) -> None:
    """In the forked process: what `unlearn` and `unlearn resume=` do."""
    torch.set_num_threads(1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        resume = (folder / "config.yaml").is_file()
        if resume:
            saved = OmegaConf.load(folder / "config.yaml")
            assert isinstance(saved, DictConfig)
            config = saved
        code = 0 if run(config, folder, resume) else 3
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class Killer:
    """Picks moments, and writes down what it met.

    Args:
        whole: seconds of the run that is left alone.
    """

    def __init__(self, config: DictConfig, folder: Path, seed: int, whole: float) -> None:
        self.config, self.folder, self.whole = config, folder, whole
        self.random, self.kills = random.Random(seed), 0

    def any_time(self, part: Part) -> bool:
        """In what is made for all runs, on the way to the training, or in its next few steps."""
        time_is_up = time.monotonic() + self.random.uniform(0, 0.25) * self.whole
        wanted = self._newest() + 2
        return part.wait(lambda: time.monotonic() > time_is_up or self._newest() >= wanted)

    def in_step(self, part: Part) -> bool:
        """A few steps on, anywhere within one."""
        wanted = self._newest() + self.random.randint(1, 3)
        if not part.wait(lambda: self._newest() >= wanted):
            return False
        time.sleep(self.random.uniform(0, 0.06))
        return not part.over()

    def in_write(self, part: Part) -> bool:
        """A few steps on, while a checkpoint is written."""
        wanted = self._newest() + self.random.randint(0, 2)
        if not part.wait(lambda: self._newest() >= wanted and self._writing(part.born)):
            return False
        time.sleep(self.random.uniform(0, 0.002))
        return True

    def when(self, name: str) -> Callable[[Part], bool]:
        """When there is a file: between it and what comes next."""

        def moment(part: Part) -> bool:
            there = (self.folder / name).exists()  # then some time later
            if not part.wait((self.folder / name).exists):
                return False
            time.sleep(self.random.uniform(0, 1.0 if there else 0.01))
            return not part.over()

        return moment

    def kill(self, moment: Callable[[Part], bool], name: str) -> None:
        part = Part(self.config, self.folder)
        if not moment(part):
            _say(kind=name, killed=False, status=part.status)
            return
        part.kill()
        self.kills += 1
        _say(
            kind=name, killed=True, seconds=round(time.monotonic() - part.started, 2),
            step=self._newest(), left_half_written=self._writing(), files=_files(self.folder),
        )  # fmt: skip

    def spoil(self) -> None:
        """Cut the newest checkpoint short, as a power cut may where a disk reorders writes."""
        path = next(iter(by_step(self.folder / "checkpoints").values()))
        os.truncate(path, path.stat().st_size // 2)
        _say(kind="spoiled", name=path.name)

    def _newest(self) -> int:
        return next(iter(by_step(self.folder / "checkpoints")), 0)

    def _writing(self, since: float = 0.0) -> bool:
        """Whether a checkpoint is being written, or was, when a part that began then was killed."""
        for path in (self.folder / "checkpoints").glob(".step=*.partial"):
            with contextlib.suppress(FileNotFoundError):  # it has its name now
                if path.stat().st_mtime > since:
                    return True
        return False


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _finish(config: DictConfig, folder: Path, what: str) -> float:
    part = Part(config, folder)
    part.wait()
    seconds = time.monotonic() - part.started
    _say(kind=what, status=part.status, seconds=round(seconds, 2), files=_files(folder))
    return seconds


def main(root: Path, seed: int) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        # Each its own kept results, so that the killed one is killed while it makes them, too.
        configs = {
            name: compose("config", [*OVERRIDES, f"cache_dir={root}/cache_{name}"])
            for name in ("whole", "killed")
        }
    whole = _finish(configs["whole"], root / "whole", "whole")
    killer = Killer(configs["killed"], root / "killed", seed, whole)
    for _ in range(4):
        killer.kill(killer.any_time, "any time")
    for number in range(12):
        moment = killer.in_write if number % 2 else killer.in_step
        killer.kill(moment, "in a write" if number % 2 else "in a step")
        if number in (5, 8):
            killer.spoil()
    for name in ("model", "unlearned.json", "generations.jsonl", "metrics.json"):
        killer.kill(killer.when(name), f"after {name}")
    if not (root / "killed/report.html").is_file():
        _finish(configs["killed"], root / "killed", "last part")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
